"""The command that measures: bench."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from pipelines.settings import QUANTIZATIONS
from runner.bench.options import ENGINES, PARTS, PICTURE_PARTS, TEXT_PARTS
from runner.cli.arguments.draw import memory
from runner.cli.arguments.types import natural
from runner.cli.parser import MODEL_HELP, add_command

if TYPE_CHECKING:
    from runner.cli.parser import Commands


def add(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "bench",
        "measure how fast models are here",
        "Measure how fast models are on this machine, part by part, beside other engines in turns. Models by name "
        "(klein-4b, klein-9b, z-image, flux1-schnell, qwen3-0.6b, qwen3-4b) are built at their real dimensions with random "
        "weights, and nothing is downloaded; --model takes a checkpoint. Without either: Diptych's sample.",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="models by name, with random weights")
    add("--model", metavar="M", help=MODEL_HELP)
    _add_what(parser)
    _add_how(parser)
    add("--json", type=Path, metavar="FILE", dest="json_file", help="write every figure there")
    add("--plot", type=Path, metavar="FILE.png", help="draw a chart there")
    add(
        "--markdown",
        type=Path,
        metavar="FILE",
        help="keep the figures in this page, with those of --add; its notes stay",
    )
    add("--add", type=Path, metavar="FILE", nargs="+", default=[], help="figures of earlier runs (--json), for the chart "
        "and the page; with them alone, nothing is measured")  # fmt: skip


def _add_what(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--engines", type=_some(ENGINES), metavar="E,…", help=f"who computes: {', '.join(ENGINES)} "
        "(default: all that are installed)")  # fmt: skip
    add("--parts", type=_some(PARTS), metavar="P,…", default=PARTS, help=f"of pictures: {', '.join(PICTURE_PARTS)}; of "
        f"text: {', '.join(TEXT_PARTS)} (default: all)")  # fmt: skip
    add("--size", type=_sizes, metavar="WxH,…", dest="sizes", help="of pictures (default: the model's own)")
    add(
        "--n",
        type=_numbers,
        metavar="N,…",
        dest="counts",
        default=(1,),
        help="pictures of a request (default 1)",
    )
    add("--steps", type=natural, metavar="N", help="denoising steps (default: the model's)")
    add(
        "--clients",
        type=_numbers,
        metavar="N,…",
        default=(1, 8, 32),
        help="of a language model (default 1,8,32)",
    )
    add("--tokens", type=natural, metavar="N", default=256, help="of each text (default %(default)s)")
    add(
        "--tensor-parallel",
        type=natural,
        metavar="N",
        default=1,
        help="our runner a second time, over so many devices",
    )


def _add_how(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--rounds", type=natural, metavar="N", default=3, help="turns of each engine (default %(default)s)")
    add("--dtype", choices=("bfloat16", "float16", "float32"), help="of the weights (default: bfloat16, on a processor "
        "float32)")  # fmt: skip
    add("--quantize", choices=QUANTIZATIONS, help="our weights: bits, or a format")
    add("--memory", type=_memory, default=("auto",), metavar="HOW,…", help="how the runner holds a picture model: resident, "
        "staged, a size, or auto")  # fmt: skip
    add("--layers", type=natural, metavar="N", help="cut models by name to so many blocks of each kind, at true width: for "
        "small machines; the figures say so")  # fmt: skip
    add("--scratch", type=Path, metavar="FOLDER", help="where checkpoints of random weights are written for `load` and "
        "`http`, and removed (default: the system's)")  # fmt: skip
    add(
        "--mflux",
        type=Path,
        metavar="PATH",
        help="an interpreter that has mflux, or a folder of packages with it",
    )


def _memory(text: str) -> tuple[str, ...]:
    """As they were written: the runner is told the same."""
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        memory(word)
    return words


def _some(known: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            if word not in known:
                raise argparse.ArgumentTypeError(f"{word!r} is unknown; there are {', '.join(known)}")
        if not words:
            raise argparse.ArgumentTypeError(f"nothing is named; there are {', '.join(known)}")
        return words

    return read


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(natural(word.strip()) for word in text.split(","))


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(_size(word.strip()) for word in text.split(","))


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is no size; 1024x1024 is one")
    return natural(width), natural(height)
