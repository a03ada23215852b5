"""Commands about pictures, and how a model that makes them is loaded."""

import argparse
from pathlib import Path
from typing import Any

from msgspec import NODEFAULT

from models.checkpoint.quantization_formats import FORMATS
from pipelines.parameters import ImageParameters, Parameter, parameters_of
from runner.cli.arguments.types import natural
from runner.cli.parser import MODEL_HELP, Commands, add_json
from runner.inspect.image_backend import CHOICES

METAVARS = {int: "N", float: "X", str: "TEXT"}


def add(commands: Commands) -> None:
    _add_draw(commands)
    _add_recipe(commands)
    _add_quantize(commands)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How a picture model is loaded."""
    parser.add_argument(
        "--engine",
        choices=CHOICES,
        default="auto",
        help="picture models: mlx, torch (diffusers', with the extra diptych[torch]), or auto: MLX where it has the "
        "pipeline",
    )
    parser.add_argument(
        "--quantize",
        choices=FORMATS,
        help="quantize a picture model while it is loaded: bits, or a format",
    )
    parser.add_argument(
        "--memory",
        type=memory,
        default="auto",
        metavar="HOW",
        help="picture models: resident (all at once), staged (text encoder and transformer in turn), a size such as "
        "8GB that decides, or auto: by what the device has",
    )


def _add_draw(commands: Commands) -> None:
    parser = commands.add(
        "draw",
        "make a picture",
        "Make a picture, and print where it is and its seed. By the gateway when it is running and none of --engine, "
        "--quantize and --memory is given, else by a runner for the call.",
    )
    add = parser.add_argument
    for parameter in parameters_of(ImageParameters):
        _add_parameter(parser, parameter)
    add("-o", dest="out", type=Path, metavar="PATH", help="where to write it: a file, which is replaced, or a folder "
        "(default: a new name from the prompt and the time, here); with --n: NAME-1, NAME-2, …")  # fmt: skip
    add("--model", metavar="M", help=MODEL_HELP)
    add("--image", dest="images", action="append", type=Path, metavar="PATH", help="a picture to edit or to start "
        "from; may be given several times")  # fmt: skip
    add("--format", choices=("png", "jpeg", "webp"), help="(default: as PATH says, else png)")
    add("--preview", action="store_true", help="show the picture in the making: small, beside PATH as "
        "NAME.preview.png, rewritten a few times and removed at the end")  # fmt: skip
    add("--from", dest="source", type=Path, metavar="PICTURE", help="repeat a picture from the recipe stored in it; "
        "other options override it")  # fmt: skip
    add_loading(parser)
    add("--verbose", action="store_true", help="show the runner's log")
    add_json(parser)


def _add_parameter(parser: argparse.ArgumentParser, parameter: Parameter) -> None:
    """A field of a request as an option; one that is required is an argument, which --from may stand in for. Its limits
    are checked where the request is."""
    about: dict[str, Any] = {"default": None, "help": parameter.help}
    if parameter.default is NODEFAULT:
        parser.add_argument(parameter.name, nargs="?", **about)
        return
    if parameter.type is bool:
        about["action"] = "store_true"
    else:
        bounded = parameter.type is int and parameter.least is not None
        about |= {"type": natural if bounded else parameter.type, "metavar": METAVARS[parameter.type]}
    parser.add_argument(parameter.flag, dest=parameter.name, **about)


def _add_recipe(commands: Commands) -> None:
    parser = commands.add("recipe", "say how a picture was made", "Print the recipe that a picture carries.")
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG, JPEG or WebP")
    add_json(parser)


def _add_quantize(commands: Commands) -> None:
    parser = commands.add(
        "quantize",
        "write a smaller copy of a model",
        "Write a copy of a model whose large layers are quantized: a folder in the same layout. Norms, embeddings and "
        "autoencoders of picture models stay as they are.",
    )
    parser.add_argument("model", metavar="SRC", help=MODEL_HELP)
    parser.add_argument("folder", type=Path, metavar="DST", help="a folder that is not there yet")
    parser.add_argument("--bits", required=True, choices=FORMATS, help="bits a weight, or a format")
    add_json(parser)


def memory(text: str) -> str | int:
    from runner.inspect.memory_mode import parse_memory

    try:
        return parse_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
