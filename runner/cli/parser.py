"""How the command line's parser is built: the commands in groups, and what their options share."""

import argparse
import importlib
from collections.abc import Callable

Command = Callable[[argparse.Namespace], int]

# As `diptych --help` lists them.
GROUPS = {
    "use": ("draw", "chat", "serve"),
    "models": ("list", "show", "pull", "rm", "quantize", "recipe", "ps", "stop"),
    "advanced": ("detect", "doctor", "config", "bench", "runner"),
}

MODEL_HELP = (
    "a folder, a Hugging Face repository (owner/name or owner/name@revision), a model in the Ollama store (name:tag), or "
    "an alias; folder:, hf: or ollama: in front says which is meant"
)


class Commands:
    """The commands of a parser, with the line about each that `diptych --help` shows."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self._parsers = parser.add_subparsers(
            prog=parser.prog, metavar="COMMAND", required=True, help=argparse.SUPPRESS
        )
        self._summaries: dict[str, str] = {}

    def add(self, name: str, summary: str, description: str = "") -> argparse.ArgumentParser:
        """A command whose work is `run` in runner/cli/commands/<name>.py, imported when it is called."""
        self._summaries[name] = summary
        parser = self._parsers.add_parser(
            name, description=description or f"{summary[0].upper()}{summary[1:]}."
        )
        parser.set_defaults(command=_imported_later(f"runner.cli.commands.{name}"))
        parser.add_argument("--config", metavar="FILE", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        return parser

    def overview(self) -> str:
        """All commands in their groups, one per line."""
        width = max(map(len, self._summaries)) + 2
        sections = (
            "\n".join([f"{group}:", *(f"  {name:<{width}}{self._summaries[name]}" for name in names)])
            for group, names in GROUPS.items()
        )
        return "\n\n".join(sections)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _imported_later(module: str) -> Command:
    def command(options: argparse.Namespace) -> int:
        code: int = importlib.import_module(module).run(options)
        return code

    return command
