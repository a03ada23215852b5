"""Commands about one model: runner, detect."""

import argparse
import os
from typing import TYPE_CHECKING

from runner.cli.arguments import draw
from runner.cli.arguments.serve import add_option
from runner.cli.arguments.types import natural, port, size, words
from runner.cli.parser import MODEL_HELP, add_command, add_json

if TYPE_CHECKING:
    from runner.cli.parser import Commands


def add(commands: "Commands") -> None:
    _add_runner(commands)
    _add_detect(commands)


def _add_runner(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "runner",
        "serve one model over HTTP",
        "Serve one model on the native wire contract. Logs go to stderr, a line each.",
    )
    add = parser.add_argument
    add("--model", required=True, metavar="M", help=MODEL_HELP)
    add("--port", required=True, type=port, metavar="P", help="0 takes a free one and prints it on stdout")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add(
        "--api-key",
        default=os.environ.get("DIPTYCH_API_KEY") or None,
        type=words,
        metavar="KEY",
        help="clients must send it as a bearer token; needed beyond loopback",
    )
    for name in ("allow_origin", "allow_host"):
        add_option(parser, name)
    add(
        "--queue",
        type=natural,
        default=512,
        metavar="N",
        help="requests that may wait (default %(default)s)",
    )
    _add_writing(parser)
    draw.add_loading(parser)
    add(
        "--warm-up",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="on an NVIDIA card, have kernels compiled while the model is loaded, not by the first request",
    )
    add("--verbose", action="store_true", help="log more")
    add("--log-format", choices=("text", "json"), default="text", help="(default %(default)s)")
    # Set by the process that starts us: stdin is a pipe whose end is that process's end.
    add("--supervised", action="store_true", help=argparse.SUPPRESS)
    # Likewise: all that a gateway has for its models.
    add("--room", type=size, metavar="SIZE", help=argparse.SUPPRESS)


def _add_writing(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--batch", type=natural, default=64, metavar="N", help="texts written together (default %(default)s)")
    add(
        "--context",
        type=natural,
        metavar="TOKENS",
        help="longest text, prompt and answer (default: the model's)",
    )
    add("--kv-bits", type=int, choices=(2, 3, 4, 6, 8), help="quantize the key-value cache to so many bits")
    add(
        "--cache-bytes",
        type=size,
        metavar="SIZE",
        help="prefix cache, such as 2GB or 0 (default: a tenth of the device's memory)",
    )
    add(
        "--dtype",
        choices=("auto", "float32", "checkpoint"),
        default="auto",
        help="auto: the checkpoint's, but float32 for half precision on a processor",
    )
    add(
        "--tensor-parallel",
        type=natural,
        default=1,
        metavar="N",
        help="spread a model that writes over N devices of this machine, a process each (default %(default)s)",
    )


def _add_detect(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "detect",
        "say what a model is",
        "Say what a model is and whether it can be run, from its JSON files alone.",
    )
    parser.add_argument("model", metavar="M", help=MODEL_HELP)
    add_json(parser)
