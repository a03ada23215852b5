"""The options of the commands for one model: runner, detect."""

import argparse
import os

from runner.cli.arguments import draw
from runner.cli.arguments.serve import add_logging, add_option
from runner.cli.arguments.types import drafted, natural, nonempty, port, size, speculate
from runner.cli.parser import MODEL_HELP, Commands, add_json


def add(commands: Commands) -> None:
    _add_runner(commands)
    _add_detect(commands)


def _add_runner(commands: Commands) -> None:
    parser = commands.add(
        "runner",
        "serve a single model over HTTP",
        "Serve a single model over HTTP, with Diptych's own API. Options that are not given are taken from the "
        "configuration of the model. The log goes to standard error.",
    )
    parser.set_defaults(loads_configuration=True)
    add = parser.add_argument
    add("--model", required=True, metavar="MODEL", help=MODEL_HELP)
    add("--port", required=True, type=port, metavar="PORT", help="port to listen on; 0 picks a free one and prints it on "
        "standard output")  # fmt: skip
    add("--host", default="127.0.0.1", metavar="ADDRESS", help="address to listen on (default: %(default)s)")
    add("--api-key", default=os.environ.get("DIPTYCH_API_KEY") or None, type=nonempty, metavar="KEY", help="key that "
        "clients must send as a bearer token; required when listening on an address other than loopback (default: "
        "$DIPTYCH_API_KEY)")  # fmt: skip
    for name in ("allow_origin", "allow_host"):
        add_option(parser, name)
    add(
        "--queue",
        type=natural,
        default=512,
        metavar="N",
        help="how many requests may wait (default: %(default)s)",
    )
    add("--dtype", choices=("auto", "float32", "checkpoint"), help="precision: float32, the checkpoint's, or auto, which is "
        "float32 for half-precision checkpoints on a CPU and otherwise the checkpoint's (default: auto)")  # fmt: skip
    add("--warm-up", action=argparse.BooleanOptionalAction, help="NVIDIA: compile kernels before a request needs them "
        "(default: yes)")  # fmt: skip
    add_logging(parser)
    _add_text(parser)
    draw.add_loading(parser)
    parser.set_defaults(engine=None, memory=None)
    add_option(parser, "loras")
    add_option(parser, "controlnets")
    add_option(parser, "tiny_vae")
    # For `diptych draw`: adapters that the local user gives as files.
    add("--lora-file", action="append", metavar="FILE", help=argparse.SUPPRESS)
    # For a parent process: standard input is a pipe that closes when it ends.
    add("--supervised", action="store_true", help=argparse.SUPPRESS)
    # For a gateway: the memory of all its models together.
    add("--room", type=size, metavar="SIZE", help=argparse.SUPPRESS)


def _add_text(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("language models").add_argument
    add("--batch", type=natural, metavar="N", help="generate up to N texts together (default: 64)")
    add(
        "--context",
        type=natural,
        metavar="TOKENS",
        help="limit on prompt and answer together (default: the model's)",
    )
    add("--kv-bits", type=natural, choices=(2, 3, 4, 6, 8), help="quantize the key-value cache to this many bits (default: "
        "not quantized)")  # fmt: skip
    add("--kv-memory", type=size, metavar="SIZE", help="memory for the key-value caches of running texts, such as 8GB; "
        "texts that do not fit wait (default: what the weights leave free)")  # fmt: skip
    add("--kv-disk", type=size, metavar="SIZE", help="keep keys and values that leave memory on disk, up to this size such as "
        "10GB, for prompts that begin the same way; also after a restart (default: 0, off)")  # fmt: skip
    add("--kv-disk-folder", type=nonempty, metavar="FOLDER", help="where --kv-disk keeps them, in a folder for each model "
        "(default: kv in Diptych's cache)")  # fmt: skip
    add("--cache-bytes", type=size, metavar="SIZE", help="size of the prefix cache, such as 2GB; 0 turns it off (default: "
        "a tenth of the device's memory)")  # fmt: skip
    add("--speculate", type=speculate, metavar="{lookup,off}", help="lookup: draft tokens ahead from what the text "
        "repeats, and check several in one step; the text stays the same (default: off)")  # fmt: skip
    add("--draft", type=nonempty, metavar="MODEL", help="draft tokens ahead with this smaller model, which needs the same "
        "tokenizer")  # fmt: skip
    add(
        "--speculate-tokens",
        type=drafted,
        metavar="N",
        help="how many tokens to draft ahead at most (default: 16)",
    )
    add("--lora", action="append", metavar="PATH[:SCALE]", help="put a LoRA adapter beside the weights: a GGUF, a safetensors "
        "file or a folder of PEFT's, times SCALE (default: 1); may be given several times")  # fmt: skip
    add("--tensor-parallel", type=natural, metavar="N", help="split the model across N devices of this machine, one "
        "process each (default: 1)")  # fmt: skip


def _add_detect(commands: Commands) -> None:
    parser = commands.add(
        "detect",
        "check whether a model can be run, from its JSON files",
        "Show what a model is and whether it can be run, from its JSON files alone. Exits with 1 if it cannot.",
    )
    parser.add_argument("model", metavar="MODEL", help=MODEL_HELP)
    add_json(parser)
