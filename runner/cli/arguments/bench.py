"""The options of the command that measures speed: bench."""

import argparse
from collections.abc import Callable
from pathlib import Path

from models.checkpoint.quantization_formats import FORMATS
from runner.bench.options import ENGINES, PARTS, PICTURE_PARTS, TEXT_PARTS, Lengths
from runner.cli.arguments.draw import memory
from runner.cli.arguments.types import integer, natural, number, size
from runner.cli.parser import MODEL_HELP, Commands


def add(commands: Commands) -> None:
    parser = commands.add(
        "bench",
        "measure how fast models run on this machine",
        "Measure how fast models run on this machine, part by part, and compare with other engines. Models given by name "
        "(klein-4b, klein-9b, flux3-klein, krea2-turbo, z-image, flux1-schnell, qwen-image, qwen-image-edit, qwen3-0.6b, qwen3-4b) have their real dimensions but random weights: "
        "nothing is downloaded. --model measures a real checkpoint. Without either, Diptych's sample model is measured.",
        "",
        "klein-4b --engines mlx,mflux --quantize 4",
        "--model Qwen/Qwen3-0.6B --clients 1,8 --json results.json",
    )
    add = parser.add_argument
    add("names", nargs="*", metavar="NAME", help="model to build with random weights")
    add("--model", metavar="MODEL", help=f"checkpoint to measure: {MODEL_HELP}")
    _add_workload(parser)
    _add_prompts(parser)
    _add_method(parser)
    _add_output(parser)


def _add_workload(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("what is measured").add_argument
    add("--engines", type=_choices(ENGINES), metavar="E,...", help=f"engines to compare: {', '.join(ENGINES)} "
        "(default: all that are installed)")  # fmt: skip
    add("--parts", type=_choices(PARTS), metavar="P,...", default=PARTS, help="parts to measure; of pictures: "
        f"{', '.join(PICTURE_PARTS)}; of text: {', '.join(TEXT_PARTS)} (default: all)")  # fmt: skip
    add("--size", type=_sizes, metavar="WxH,...", dest="sizes", help="picture sizes (default: the model's)")
    add(
        "--n",
        type=_numbers,
        metavar="N,...",
        dest="counts",
        default=(1,),
        help="pictures per request (default: 1)",
    )
    add("--steps", type=natural, metavar="N", help="denoising steps (default: the model's)")
    add("--clients", type=_numbers, metavar="N,...", default=(1, 8, 32), help="concurrent clients of a language model "
        "(default: 1,8,32)")  # fmt: skip
    add("--tokens", type=natural, metavar="N", default=256, help="tokens per answer (default: %(default)s)")
    add("--tensor-parallel", type=natural, metavar="N", default=1, help="measure Diptych's runner a second time, split "
        "across N devices")  # fmt: skip


def _add_prompts(parser: argparse.ArgumentParser) -> None:
    """What clients of a language model ask."""
    add = parser.add_argument
    add("--prompt-tokens", type=_lengths, metavar="N,A-B,...", default=(), help="tokens of the prompts: a number, or a range "
        "in which each request has another; new prompts in each round (default: some forty words)")  # fmt: skip
    add("--long", type=natural, metavar="N", help="one client brings a prompt of N tokens while the others write: their "
        "gaps, its first token, the memory")  # fmt: skip
    add("--long-share", type=_share, metavar="SHARE", help="this share of the prompts has --long tokens, and all come "
        "together, such as 0.33")  # fmt: skip
    add("--edit", action="store_true", help="prompts that have a file written again with a small change; Diptych without and "
        "with prompt lookup")  # fmt: skip
    add("--kv-memory", type=_size_text, metavar="SIZE", help="the runner's --kv-memory, such as 8GB")
    add("--seed", type=integer, metavar="N", default=0, help="other prompts (default: %(default)s)")


def _add_method(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("how it is measured").add_argument
    add("--rounds", type=natural, metavar="N", default=3, help="rounds, in which the engines take turns (default: "
        "%(default)s)")  # fmt: skip
    add("--dtype", choices=("bfloat16", "float16", "float32"), help="precision of the weights (default: bfloat16, on a "
        "CPU float32)")  # fmt: skip
    add("--quantize", choices=FORMATS, help="quantize Diptych's weights to this many bits, or to this format")
    add("--memory", type=_memory, default=("auto",), metavar="HOW,...", help="how the runner keeps a picture model in "
        "memory: resident, staged, a size, or auto (default: auto)")  # fmt: skip
    add("--layers", type=natural, metavar="N", help="keep only N blocks of each kind, at their real width, of models "
        "given by name: for small machines; the results say so")  # fmt: skip
    add("--scratch", type=Path, metavar="FOLDER", help="where to write, and afterwards remove, the random checkpoints "
        "that the parts load and http need (default: the system's temporary folder)")  # fmt: skip
    add("--mflux", type=Path, metavar="PATH", help="a Python interpreter that has mflux, or a folder of packages with "
        "it")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("results").add_argument
    add("--json", type=Path, metavar="FILE", dest="json_file", help="write all results to this file")
    add("--plot", type=Path, metavar="FILE.png", help="draw a chart of the results")
    add("--markdown", type=Path, metavar="FILE", help="update this page with the results, and those of --add; its notes "
        "are kept")  # fmt: skip
    add("--add", type=Path, metavar="FILE", nargs="+", default=[], help="results of earlier runs (--json) to include in "
        "the chart and the page; without a model, nothing new is measured")  # fmt: skip


def _memory(text: str) -> tuple[str, ...]:
    """The words as they were written, for the runner's own --memory."""
    words = tuple(word.strip() for word in text.split(","))
    for word in words:
        memory(word)
    return words


def _choices(allowed: tuple[str, ...]) -> Callable[[str], tuple[str, ...]]:
    def read(text: str) -> tuple[str, ...]:
        words = tuple(word.strip() for word in text.split(",") if word.strip())
        for word in words:
            if word not in allowed:
                raise argparse.ArgumentTypeError(f"{word!r} is unknown; choose from {', '.join(allowed)}")
        if not words:
            raise argparse.ArgumentTypeError(f"it is empty; choose from {', '.join(allowed)}")
        return words

    return read


def _size_text(text: str) -> str:
    """A size as it was written, for the runner's own option."""
    size(text)
    return text


def _share(text: str) -> float:
    share = number(text)
    if not 0 < share < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return share


def _lengths(text: str) -> tuple[Lengths, ...]:
    return tuple(_length(word.strip()) for word in text.split(","))


def _length(text: str) -> Lengths:
    least, dash, most = text.partition("-")
    lengths = (natural(least), natural(most if dash else least))
    if lengths[0] > lengths[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range; write the smaller number first")
    return lengths


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(natural(word.strip()) for word in text.split(","))


def _sizes(text: str) -> tuple[tuple[int, int], ...]:
    return tuple(_size(word.strip()) for word in text.split(","))


def _size(text: str) -> tuple[int, int]:
    width, cross, height = text.lower().partition("x")
    if not cross:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size; write it like 1024x1024")
    return natural(width), natural(height)
