"""The options of the gateway: serve."""

import argparse
from collections.abc import Callable
from typing import Any

from runner.cli.parser import MODEL_HELP, Commands
from runner.config.options import SERVE
from runner.units import show_duration

METAVARS = {
    "host": "ADDRESS",
    "port": "PORT",
    "memory": "SIZE",
    "store_size": "SIZE",
    "gallery_size": "SIZE",
    "api_key": "KEY",
    "api_key_file": "FILE",
    "replica_key": "KEY",
}
METAVARS |= dict.fromkeys(("max_loaded", "queue", "replicas", "speculate_tokens", "gallery_pictures"), "N")
METAVARS |= dict.fromkeys(("keep_alive", "load_timeout", "grace", "stall", "store_age"), "TIME")
METAVARS |= {
    "loras": "FOLDER",
    "controlnets": "FOLDER",
    "tiny_vae": "MODEL",
    "speculate": "{lookup,off}",
    "allow_origin": "ORIGIN",
    "allow_host": "NAME",
}


def add(commands: Commands) -> None:
    parser = commands.add(
        "serve",
        "serve models over HTTP: web page, OpenAI and Ollama APIs",
        "Serve many models on one port: a web page, Diptych's own API, and APIs that clients of OpenAI and Ollama can use. "
        "A model is loaded when a request names it, and unloaded when it has been idle or others need its memory. Every "
        "option can also be set in the configuration file, or as DIPTYCH_NAME in the environment.",
        "",
        "Qwen/Qwen3-0.6B --keep-alive 1h",
        "--host 0.0.0.0 --api-key-file keys.txt",
    )
    parser.set_defaults(loads_configuration=True)
    parser.add_argument("model", nargs="*", metavar="MODEL", help="load this model at startup, and keep it until its "
        f"memory is needed: {MODEL_HELP}")  # fmt: skip
    for name in SERVE:
        add_option(parser, name)
    add_logging(parser)


def add_logging(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--verbose", action="store_true", help="write a more detailed log")
    parser.add_argument(
        "--log-format", choices=("text", "json"), default="text", help="format of the log (default: text)"
    )


def add_option(parser: argparse.ArgumentParser, name: str) -> None:
    option = SERVE[name]
    about = option.about
    if option.default not in (None, False, True, ()) and "default" not in about:
        default = option.default
        about += f" (default: {show_duration(default) if isinstance(default, float) else default})"
    if option.default is False:
        kind: dict[str, Any] = {"action": "store_true", "default": None}
    elif option.default is True:
        kind = {"action": argparse.BooleanOptionalAction, "default": None}
    elif option.kind.many:
        about += "; may be repeated"
        kind = {"action": "append", "type": _reader(name), "metavar": METAVARS[name]}
    else:
        kind = {"type": _reader(name), "metavar": METAVARS[name]}
    parser.add_argument("--" + name.replace("_", "-"), help=about, **kind)


def _reader(name: str) -> Callable[[str], Any]:
    kind = SERVE[name].kind

    def read(text: str) -> Any:
        try:
            return kind.read(text) if kind.many else kind.parse_text(text)
        except ValueError:
            raise argparse.ArgumentTypeError(
                f"{text[:80]!r} is not allowed; it must be {kind.allowed}"
            ) from None

    return read
