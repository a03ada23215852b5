"""The command that serves many models."""

import argparse
from typing import TYPE_CHECKING, Any

from runner.cli.parser import MODEL_HELP, add_command
from runner.config.options import SERVE
from runner.units import show_duration

if TYPE_CHECKING:
    from runner.cli.parser import Commands

METAVARS = {"host": "ADDRESS", "port": "P", "memory": "SIZE", "api_key": "KEY", "api_key_file": "FILE"}
METAVARS |= dict.fromkeys(("max_loaded", "queue", "replicas"), "N")
METAVARS |= dict.fromkeys(("keep_alive", "load_timeout", "grace", "stall"), "TIME")
METAVARS |= {"allow_origin": "ORIGIN", "allow_host": "NAME"}


def add(commands: "Commands") -> None:
    parser = add_command(
        commands,
        "serve",
        "serve many models over HTTP",
        "Serve many models on one port: each is loaded when it is asked for, kept while there is memory, and ended when "
        "there is none. Every option can also stand in the configuration, or in the environment as DIPTYCH_NAME.",
    )
    parser.add_argument(
        "model",
        nargs="*",
        metavar="MODEL",
        help=f"loaded at the start, and kept until its memory is wanted: {MODEL_HELP}",
    )
    for name in SERVE:
        add_option(parser, name)
    parser.add_argument("--verbose", action="store_true", help="log more")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="(default %(default)s)"
    )


def add_option(parser: argparse.ArgumentParser, name: str) -> None:
    option = SERVE[name]
    about = option.about
    if option.default not in (None, False, ()) and "default" not in about:
        default = option.default
        about += f" (default {show_duration(default) if isinstance(default, float) else default})"
    if option.default is False:
        kind: dict[str, Any] = {"action": "store_true", "default": None}
    elif option.kind.many:
        kind = {"action": "append", "type": _reader(name), "metavar": METAVARS[name]}
    else:
        kind = {"type": _reader(name), "metavar": METAVARS[name]}
    parser.add_argument("--" + name.replace("_", "-"), help=about, **kind)


def _reader(name: str) -> Any:
    kind = SERVE[name].kind

    def read(text: str) -> Any:
        try:
            return kind.read(text) if kind.many else kind.parse_text(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text[:80]!r} is not allowed; {kind.allowed}") from None

    return read
