"""Sampling options of a request. Plain data: no MLX."""

from collections.abc import Mapping
from dataclasses import dataclass, field

MASK_32 = 0xFFFFFFFF


@dataclass(frozen=True)
class Sampling:
    """The defaults are greedy decoding, without penalties or bias."""

    temperature: float = 0.0
    top_k: int = 0  # 0: all
    top_p: float = 1.0
    min_p: float = 0.0
    repeat_last_n: int = 64  # tokens that the penalties look back at; -1: all
    repeat_penalty: float = 1.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    bias: Mapping[int, float] = field(default_factory=dict)

    @property
    def greedy(self) -> bool:
        return self.temperature == 0 or self.top_k == 1

    @property
    def filters(self) -> bool:
        return not self.greedy and (self.top_k > 0 or self.top_p < 1 or self.min_p > 0)

    @property
    def penalizes(self) -> bool:
        changes = self.repeat_penalty != 1 or self.presence_penalty != 0 or self.frequency_penalty != 0
        return changes and self.repeat_last_n != 0

    @property
    def key(self) -> tuple[int, int]:
        """64 bits of seed, mixed (splitmix64), as the two words of a random key."""
        z = (self.seed + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
        z ^= z >> 31
        return z >> 32, z & MASK_32


@dataclass(frozen=True)
class Drafting:
    """How tokens of an answer are drafted ahead of the model. The text is the same with any of it, or none."""

    most: int = 0  # tokens drafted in one step; 0: none
    lookup: bool = False  # from what the text repeats
    model: bool = False  # by the draft model
    prediction: tuple[int, ...] = ()  # what the answer is likely to repeat

    @property
    def enabled(self) -> bool:
        return self.most > 0 and (self.lookup or self.model)
