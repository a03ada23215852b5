"""The command line's words, a file a group of commands. What they do is in runner/cli/commands."""

import argparse
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

Command = Callable[[argparse.Namespace], int]

MODEL_HELP = (
    "a folder, a hub repo (owner/name, or owner/name@revision), a name in the Ollama store (name:tag), or an alias; "
    "hf: or ollama: in front forces one"
)


def add_command(
    commands: "Commands", name: str, about: str, description: str = ""
) -> argparse.ArgumentParser:
    """A command whose work is `run` in runner/cli/commands/<name>.py, imported when it is called."""
    parser = commands.add_parser(
        name, help=about, description=description or f"{about[0].upper()}{about[1:]}."
    )
    parser.set_defaults(command=_later(f"runner.cli.commands.{name}"))
    parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return parser


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="as JSON")


def _later(module: str) -> Command:
    def command(options: argparse.Namespace) -> int:
        code: int = importlib.import_module(module).run(options)
        return code

    return command
