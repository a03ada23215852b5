"""The options of the commands for pictures: draw, recipe, quantize; and how a picture model is loaded."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from msgspec import NODEFAULT

from models.checkpoint.quantization_formats import FORMATS
from pipelines.boxes import Box
from pipelines.controls import Control
from pipelines.loras import Lora
from pipelines.parameter_types import Parameter, parameters_of
from pipelines.parameters import ImageParameters
from pipelines.variations import Variation
from runner.cli.arguments.types import (
    box,
    control,
    integer,
    integers,
    lora,
    natural,
    number,
    picture_size,
    variation,
)
from runner.cli.parser import MODEL_HELP, Commands, add_json
from runner.inspect.image_backend import CHOICES

METAVARS = {int: "N", float: "X", str: "TEXT"}
LISTS: dict[Any, dict[str, Any]] = {
    Lora: {"action": "append", "type": lora, "metavar": "NAME[:SCALE]"},
    Box: {"action": "append", "type": box, "metavar": "TEXT@TOP,LEFT,BOTTOM,RIGHT"},
    Control: {"action": "append", "type": control, "metavar": "NAME=PICTURE[:SCALE]"},
    Variation: {"action": "append", "type": variation, "metavar": "SEED:STRENGTH"},
    int: {"type": integers, "metavar": "N,N,..."},
}
MORE_HELP: dict[Any, str] = {
    Box: "; sides from 0 to 1; may be repeated",
    Lora: "; a hub repository, a safetensors file or a name in the folder of adapters; may be repeated",
    Control: "; a hub repository or a name in the folder of ControlNets, and a picture's file; ,start=X ,end=X ,mode=N may "
    "follow; may be repeated",
    Variation: "; may be repeated",
}
READERS = {int: integer, float: number, str: str}


def add(commands: Commands) -> None:
    _add_draw(commands)
    _add_recipe(commands)
    _add_quantize(commands)


def add_loading(parser: argparse.ArgumentParser) -> None:
    """How a picture model is loaded."""
    add = parser.add_argument_group("picture models").add_argument
    add("--engine", choices=CHOICES, default="auto", help="mlx, torch (diffusers; needs the extra diptych[torch]), or "
        "auto, which is mlx if it supports the model and otherwise torch (default: auto)")  # fmt: skip
    add("--quantize", choices=FORMATS, help="quantize while loading, to this many bits or to this format")
    add("--memory", type=memory, default="auto", metavar="HOW", help="resident keeps everything in memory, staged loads "
        "text encoder and transformer in turn; a size such as 8GB, or auto for the device's memory, chooses between them "
        "(default: auto)")  # fmt: skip


def _add_draw(commands: Commands) -> None:
    parser = commands.add(
        "draw",
        "draw a picture from a prompt, or edit pictures",
        "Draw a picture, and print its path and seed. The gateway draws if one is running and none of --engine, --quantize, "
        "--memory and --verbose is given; otherwise the model is loaded for this call.",
        '"a red circle above a blue square"',
        '"a lighthouse in the rain" --model black-forest-labs/FLUX.2-klein-4B -o lighthouse.png',
        '"make it night" --model black-forest-labs/FLUX.2-klein-4B --image lighthouse.png',
        '"a sailing boat" --model black-forest-labs/FLUX.2-klein-4B --image sea.png --mask where.png',
        "--from lighthouse.png --seed 7",
        '"a lighthouse" --seeds 1,2,3 --variation 7:0.1 --variation 7:0.3 --grid',
    )
    add_option = parser.add_argument_group("picture").add_argument
    add = parser.add_argument
    for parameter in parameters_of(ImageParameters):
        _add_parameter(add if parameter.default is NODEFAULT else add_option, parameter)
    add("-o", dest="out", type=Path, metavar="PATH", help="file to write, replacing an existing one, or folder; with "
        "--n: NAME-1, NAME-2, ... (default: a new file in the current folder, named after the prompt and the time)")  # fmt: skip
    add("--model", metavar="MODEL", help=f"{MODEL_HELP} (default: Diptych's sample model)")
    add("--image", dest="images", action="append", type=Path, metavar="PATH", help="picture to edit or to start "
        "from; may be repeated")  # fmt: skip
    add("--grid", action="store_true", help="also write all pictures as one, NAME-grid: a row for each seed if there are "
        "variations, otherwise nearly a square")  # fmt: skip
    add(
        "--grid-labels",
        action="store_true",
        help="write under each picture of the grid its seed and variation",
    )
    add_option("--size", type=picture_size, metavar="WxH", help="width and height in one, such as 1024x768")
    add("--mask", type=Path, metavar="PATH", help="picture in the size of the first --image that shows what to change: the "
        "white part, or, if it has one, the transparent part")  # fmt: skip
    add("--format", choices=("png", "jpeg", "webp"), help="file format (default: that of -o, else png)")
    add("--preview", action="store_true", help="write a small preview next to the picture, NAME.preview.png, "
        "a few times while drawing; it is removed at the end")  # fmt: skip
    add("--from", dest="source", type=Path, metavar="PICTURE", help="repeat a picture from the recipe stored in it; "
        "other options override it")  # fmt: skip
    add_loading(parser)
    add("--verbose", action="store_true", help="show the log of the runner")
    add_json(parser)


def _add_parameter(add: Callable[..., Any], parameter: Parameter) -> None:
    """A parameter as an option. A required one is a positional argument, which --from can replace. Limits are checked
    with the request."""
    about: dict[str, Any] = {"default": None, "help": parameter.help}
    if parameter.default is NODEFAULT:
        add(parameter.name, nargs="?", **about)
        return
    if parameter.type is bool:
        about["action"] = "store_true"
    elif get_origin(parameter.type) is Literal:
        about["choices"] = get_args(parameter.type)
    elif parameter.item is not None:
        about |= LISTS[parameter.item]
        about["help"] += MORE_HELP.get(parameter.item, "")
    else:
        bounded = parameter.type is int and parameter.least is not None
        about |= {
            "type": natural if bounded else READERS[parameter.type],
            "metavar": METAVARS[parameter.type],
        }
    add(parameter.flag, dest=parameter.name, **about)


def _add_recipe(commands: Commands) -> None:
    parser = commands.add(
        "recipe", "show how a picture was made", "Show how a picture was made, from the recipe stored in it."
    )
    parser.add_argument("picture", type=Path, metavar="PICTURE", help="a PNG, JPEG or WebP file")
    add_json(parser)


def _add_quantize(commands: Commands) -> None:
    parser = commands.add(
        "quantize",
        "write a smaller copy of a model",
        "Write a copy of a model with its large layers quantized, in the same layout. The norms, embeddings and "
        "autoencoder of a picture model are not quantized.",
        "black-forest-labs/FLUX.2-klein-4B ./klein-4bit --bits 4",
    )
    parser.add_argument("model", metavar="SRC", help=MODEL_HELP)
    parser.add_argument("folder", type=Path, metavar="DST", help="folder to create")
    parser.add_argument("--bits", required=True, choices=FORMATS, help="bits per weight, or a format")
    add_json(parser)


def memory(text: str) -> str | int:
    from runner.inspect.memory_mode import parse_memory

    try:
        return parse_memory(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
