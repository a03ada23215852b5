"""The types of option values."""

import argparse
from pathlib import Path
from typing import Any

from pipelines.boxes import Box, parse_box
from pipelines.controls import parse_control
from pipelines.loras import Lora, parse_lora
from pipelines.variations import Variation, parse_variation
from runner.config.options import SPECULATE
from runner.protocol.speculate import MOST_DRAFTED
from runner.units import parse_size


def integer(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a number") from None


def picture_size(text: str) -> dict[str, int]:
    """`1024x768`, also with the sign ×."""
    width, times, height = text.lower().replace("×", "x").partition("x")
    if not times:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a size such as 1024x768")
    return {"width": natural(width.strip()), "height": natural(height.strip())}


def lora(text: str) -> Lora:
    try:
        return parse_lora(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: {error}") from None


def control(text: str) -> tuple[Path, dict[str, Any]]:
    try:
        return parse_control(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: {error}") from None


def box(text: str) -> Box:
    try:
        return parse_box(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: {error}") from None


def variation(text: str) -> Variation:
    try:
        return parse_variation(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text[:80]!r}: {error}") from None


def integers(text: str) -> tuple[int, ...]:
    """`1,2,3`."""
    return tuple(integer(part.strip()) for part in text.split(","))


def natural(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive whole number")
    return number


def port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port number from 0 to 65535")
    return number


def size(text: str) -> int:
    """A size in bytes, or 0."""
    try:
        return 0 if text.strip() == "0" else parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def drafted(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not 1 <= number <= MOST_DRAFTED:
        raise argparse.ArgumentTypeError(f"{text[:80]!r} is not a whole number from 1 to {MOST_DRAFTED}")
    return number


def speculate(text: str) -> str:
    if text == "mtp":
        raise argparse.ArgumentTypeError(
            "'mtp' is not supported: heads that predict several tokens (MTP) are left out when mlx-lm loads a checkpoint; "
            "lookup works with every model, and so does --draft MODEL"
        )
    if text not in SPECULATE:
        raise argparse.ArgumentTypeError(
            f"{text[:80]!r} is not allowed; it must be one of {', '.join(SPECULATE)}"
        )
    return text


def nonempty(text: str) -> str:
    if not text.strip():
        raise argparse.ArgumentTypeError("it must not be empty")
    return text
