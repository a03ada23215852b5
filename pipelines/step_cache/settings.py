"""A step cache as a request names it: `first_block`, or with settings `mag:threshold=0.1,max_skip_steps=2`. No MLX.

The settings have the names and defaults of diffusers' FirstBlockCacheConfig, MagCacheConfig and TaylorSeerCacheConfig.
"""

import math
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

MOST_RATIOS = 1000


@dataclass(frozen=True)
class FirstBlock:
    """Steps are skipped whose first block changes the picture by nearly what it changed it by in the last computed step."""

    threshold: float = 0.05


@dataclass(frozen=True)
class Mag:
    """Steps are skipped while the error adds up to less than the threshold, by how much shorter the change of each step is
    than that of the step before: `ratios`, which `calibrate` measures."""

    threshold: float = 0.06
    max_skip_steps: int = 3
    retention_ratio: float = 0.2
    ratios: tuple[float, ...] = ()
    calibrate: bool = False


@dataclass(frozen=True)
class TaylorSeer:
    """Between computed steps the network's output goes on as it did in the last ones (a Taylor series)."""

    cache_interval: int = 5
    disable_cache_before_step: int = 3
    disable_cache_after_step: int | None = None
    max_order: int = 1


Settings: TypeAlias = FirstBlock | Mag | TaylorSeer
KINDS: dict[str, type[Settings]] = {"first_block": FirstBlock, "mag": Mag, "taylorseer": TaylorSeer}
# What each number may be.
LIMITS: dict[str, tuple[float, float]] = {
    "threshold": (0, 100),
    "max_skip_steps": (0, 1000),
    "retention_ratio": (0, 1),
    "cache_interval": (1, 1000),
    "disable_cache_before_step": (1, 1000),
    "disable_cache_after_step": (0, 1000),
    "max_order": (0, 4),
}


def parse_step_cache(text: str) -> Settings:
    """A ValueError says what is wrong, and what is allowed."""
    name, _, rest = text.partition(":")
    kind = KINDS.get(name.strip())
    if kind is None:
        raise ValueError(f"{name[:40]!r} is not a step cache; there are {', '.join(KINDS)}")
    names = [field.name for field in fields(kind)]
    values: dict[str, Any] = {}
    for part in filter(None, (part.strip() for part in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if key not in names:
            raise ValueError(f"{name} has no setting {key[:40]!r}; there are {', '.join(names)}")
        if key in values:
            raise ValueError(f"{key} is given twice")
        values[key] = _value(key, value, bool(equals))
    return kind(**values)


def _value(key: str, text: str, given: bool) -> Any:
    if key == "calibrate":
        if given and text not in ("true", "false"):
            raise ValueError(f"calibrate: {text[:40]!r} is not allowed; true or false is")
        return not given or text == "true"
    if key == "ratios":
        ratios = tuple(_number(key, part, 0, 1000) for part in text.split("/"))
        if len(ratios) > MOST_RATIOS:
            raise ValueError(f"ratios: {len(ratios)} are too many; {MOST_RATIOS} are allowed")
        return ratios
    least, most = LIMITS[key]
    number = _number(key, text, least, most)
    if key in ("threshold", "retention_ratio"):
        return number
    if number != int(number):
        raise ValueError(f"{key}: {text[:40]} is not allowed; a whole number is needed")
    return int(number)


def _number(key: str, text: str, least: float, most: float) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{key}: {text[:40]!r} is not a number") from None
    if not (math.isfinite(number) and least <= number <= most):
        raise ValueError(f"{key}: {text[:40]} is out of range; {least:g} to {most:g} is allowed")
    return number
