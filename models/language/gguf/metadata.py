"""The metadata of a GGUF, read with its types: an error names the key, its value and what is allowed."""

import math
from array import array
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

T = TypeVar("T")
MOST = 2**31
MOST_IN_LIST = 4096


class GGUFError(ValueError):
    """A file that is not damaged, but that cannot be run."""


class Metadata:
    """Keys are given without the architecture that they begin with; `factors` are the tensors of rotary factors."""

    def __init__(self, values: Mapping[str, Any], factors: Mapping[str, list[float]], label: str) -> None:
        self.values = values
        self.factors = factors
        self.label = label
        self.architecture = self.text("general.architecture")

    def refused(self, reason: str) -> GGUFError:
        return GGUFError(f"{self.label} cannot be run: {reason}")

    def text(self, key: str, default: str | None = None) -> str:
        value = self.values.get(key, default)
        if not isinstance(value, str):
            raise self._wrong(key, value, "text")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """A whole number of 0 and more; of one for each layer, all have to be the same."""
        value = self._get(key)
        if value is None and default is not None:
            return default
        if isinstance(value, array) and len(set(value)) == 1:
            value = value[0]
        if type(value) is not int or not 0 <= value < MOST:
            raise self._wrong(f"{self.architecture}.{key}", value, "a whole number, the same for every layer")
        return value

    def count(self, key: str, default: int | None = None) -> int:
        value = self.whole(key, default)
        if value < 1:
            raise self._wrong(f"{self.architecture}.{key}", value, "1 or more")
        return value

    def blocks(self, key: str, tensors: int) -> int:
        """How many blocks there are, of which each has tensors: whatever goes through them ends."""
        count = self.count(key)
        if count > tensors:
            raise self.refused(f"{self.architecture}.{key} is {count}, but there are {tensors} tensors")
        return count

    def number(self, key: str, default: T) -> float | T:
        value = self._get(key)
        if value is None:
            return default
        if type(value) not in (int, float) or not math.isfinite(value):
            raise self._wrong(f"{self.architecture}.{key}", value, "a number")
        return float(value)

    def wholes(self, key: str, default: list[int]) -> list[int]:
        """A list of whole numbers."""
        value = self._get(key)
        if value is None:
            return default
        if not isinstance(value, array) or value.typecode not in "bBhHiIqQ" or len(value) > MOST_IN_LIST:
            raise self._wrong(f"{self.architecture}.{key}", value, "a list of whole numbers")
        return list(value)

    def numbers(self, key: str, default: Sequence[float]) -> list[float]:
        value = self._get(key)
        if value is None:
            return list(default)
        if not isinstance(value, array) or len(value) != len(default) or not all(map(math.isfinite, value)):
            raise self._wrong(f"{self.architecture}.{key}", value, f"a list of {len(default)} numbers")
        return list(value)

    def _get(self, key: str) -> Any:
        return self.values.get(f"{self.architecture}.{key}")

    def _wrong(self, key: str, value: Any, allowed: str) -> GGUFError:
        shown = "missing" if value is None else repr(str(value)[:80])
        return GGUFError(f"{self.label}: {key} is {shown}; {allowed} is needed")

    @property
    def context(self) -> int:
        return self.count("context_length")

    @property
    def head_dim(self) -> int:
        width = self.count("embedding_length") // self.count("attention.head_count")
        size = self.count("attention.key_length", width)
        if self.count("attention.value_length", size) != size:
            raise self.refused("the heads of its values have another size than those of its keys")
        return size

    def rope(self) -> dict[str, Any]:
        """The rotation, as transformers writes it in `rope_parameters`."""
        base = self.number("rope.freq_base", 10_000.0)
        parameters: dict[str, Any] = {"rope_type": "default", "rope_theta": base, **self._scaling()}
        rotated = self.whole("rope.dimension_count", self.head_dim)
        if rotated != self.head_dim:
            parameters["partial_rotary_factor"] = rotated / self.head_dim
        return parameters

    def _scaling(self) -> dict[str, Any]:
        short, long = self.factors.get("short"), self.factors.get("long")
        if short is not None and long is not None:
            return {
                "rope_type": "longrope",
                "short_factor": short,
                "long_factor": long,
                "original_max_position_embeddings": self.count(
                    "rope.scaling.original_context_length", self.context
                ),
                "attention_factor": self.number("rope.scaling.attn_factor", 1.0),
            }
        if factors := self.factors.get("all"):
            # Llama 3's scaling, written out: the same factors for texts of any length.
            trained = {"original_max_position_embeddings": self.context, "attention_factor": 1.0}
            return {"rope_type": "longrope", "short_factor": factors, "long_factor": factors, **trained}
        kind = self.values.get(f"{self.architecture}.rope.scaling.type", "none")
        factor = self.number("rope.scaling.factor", self.number("rope.scale_linear", 1.0))
        if kind == "none" or factor in (0.0, 1.0):
            return {}
        if kind == "linear":
            return {"rope_type": "linear", "factor": factor}
        if kind == "yarn":
            return self._yarn(factor)
        raise self._wrong(f"{self.architecture}.rope.scaling.type", kind, "none, linear or yarn")

    def _yarn(self, factor: float) -> dict[str, Any]:
        yarn: dict[str, Any] = {"rope_type": "yarn", "factor": factor}
        yarn["original_max_position_embeddings"] = self.count("rope.scaling.original_context_length")
        for key, name in (
            ("yarn_beta_fast", "beta_fast"),
            ("yarn_beta_slow", "beta_slow"),
            ("yarn_log_multiplier", "mscale_all_dim"),
        ):
            value = self.number(f"rope.scaling.{key}", None)
            if value is not None:
                yarn[name] = value
        return yarn
