"""One sequence on its way through the batch: what was asked, and how far it is."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.language.batch.options import Sampling

_numbers = count()
Finish = Literal["stop", "length"]


class Matcher(Protocol):
    """Something that says which tokens may come next (a grammar)."""

    def mask(self) -> npt.NDArray[np.uint32]:
        """One bit a token id, the lowest bit first."""

    def accept(self, token: int) -> None: ...

    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen token's log probability under the model, and the likeliest alternatives."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Sequence:
    """`prompt` is never empty and its ids are within the vocabulary: the caller has checked."""

    id: Hashable
    prompt: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()
    logprobs: int | None = None  # how many alternatives; None: not even its own
    matcher: Matcher | None = None
    on_started: Callable[[], None] | None = None  # its prefill begins

    number: int = field(default_factory=lambda: next(_numbers))  # its name among ranks

    # How far it is.
    tokens: list[int] = field(default_factory=list)  # what its cache holds
    cached: int = 0  # how many prompt tokens came out of the prefix cache
    generated: int = 0
    awaiting_first_token: bool = True  # fed with its prompt's last token, has not drawn yet
    pending_token_emitted: bool = False  # the token it is to be fed with next was told already
    has_nan: bool = False  # what was computed for it are no numbers


@dataclass(frozen=True)
class Output:
    """What one step brought one sequence. `token` is None where the end itself is all there is to say."""

    sequence: Sequence
    token: int | None
    logprob: TokenLogprob | None = None
    finish: Finish | None = None
    error: str | None = None
