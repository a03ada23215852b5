"""How the command line's parser is built: the commands in groups, what their options share, and usage errors."""

import argparse
import importlib
import re
import sys
import textwrap
from collections.abc import Callable, Iterable
from difflib import get_close_matches
from typing import Any, NoReturn

Command = Callable[[argparse.Namespace], int]

# As `diptych --help` lists them.
GROUPS = {
    "use": ("run", "draw", "chat", "serve", "mcp"),
    "models": ("list", "show", "pull", "rm", "quantize", "recipe", "ps", "stop"),
    "advanced": ("detect", "doctor", "config", "bench", "runner", "completion"),
}

MODEL_HELP = (
    "a folder, a Hugging Face repository (owner/name or owner/name@revision), a model in the Ollama store (name:tag), or "
    "an alias; folder:, hf: or ollama: in front says which is meant"
)

# argparse's messages, and what users read instead.
ERRORS = (
    (r"argument (.+): expected one argument", r"\1 needs a value"),
    (r"argument (.+): expected at least one argument", r"\1 needs at least one value"),
    (r"argument (.+): ignored explicit argument (.+)", r"\1 takes no value, but was given \2"),
    (r"argument (.+): not allowed with argument (.+)", r"\1 cannot be combined with \2"),
    (r"the following arguments are required: (.+)", r"missing: \1"),
    (r"ambiguous option: (.+) could match (.+)", r"\1 is ambiguous: it could mean \2"),
    (r"argument ([^:]+): (.+)", r"\1: \2"),
)
INVALID_CHOICE = re.compile(r"argument (.+): invalid choice: '?(.*?)'? \(choose from (.+)\)", re.DOTALL)


class Formatter(argparse.HelpFormatter):
    """Keeps the line breaks of descriptions, and wraps their lines."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        lines = ((line.lstrip(), line[: len(line) - len(line.lstrip())]) for line in text.splitlines())
        return "\n".join(
            textwrap.fill(line, width, initial_indent=indent + own, subsequent_indent=indent + own)
            for line, own in lines
        )


class Parser(argparse.ArgumentParser):
    """A parser whose errors are sentences, with a suggestion for what was mistyped."""

    def parse_known_args(self, *args: Any, **options: Any) -> Any:
        namespace, rest = super().parse_known_args(*args, **options)
        if rest:
            # Here and not in parse_args: a command knows its own options, the parser above it does not.
            word = rest[0].partition("=")[0]
            kind = "unknown option" if word.startswith("-") else "unexpected argument"
            self.error(f"{kind} {word}{_suggestion(word, self._option_string_actions)}")
        return namespace, rest

    def error(self, message: str) -> NoReturn:
        self.print_usage(sys.stderr)
        self.exit(2, f"{self.prog}: {_sentence(message)}\nSee `{self.prog} --help`.\n")


def _sentence(message: str) -> str:
    if match := INVALID_CHOICE.fullmatch(message):
        name, word, listed = match.groups()
        choices = listed.replace("'", "").split(", ")
        if name == "COMMAND":
            return f"{word!r} is not a command{_suggestion(word, choices)}"
        return f"{name}: {word!r} is not allowed; choose from {', '.join(choices)}"
    for pattern, replacement in ERRORS:
        if match := re.fullmatch(pattern, message, re.DOTALL):
            return match.expand(replacement)
    return message


def _suggestion(word: str, words: Iterable[str]) -> str:
    close = get_close_matches(word, words, n=1)
    return f"; did you mean {close[0]}?" if close else ""


class Commands:
    """The commands of a parser, with the line about each that `diptych --help` shows."""

    def __init__(self, parser: Parser) -> None:
        self._parsers = parser.add_subparsers(
            prog=parser.prog, metavar="COMMAND", required=True, help=argparse.SUPPRESS
        )
        self._summaries: dict[str, str] = {}

    def add(self, name: str, summary: str, description: str = "", *examples: str) -> Parser:
        """A command whose work is `run` in runner/cli/commands/<name>.py, imported when it is called."""
        self._summaries[name] = summary
        epilog = "\n  ".join(["examples:", *(f"diptych {name} {example}" for example in examples)])
        parser: Parser = self._parsers.add_parser(
            name,
            help=summary,
            description=description or f"{summary[0].upper()}{summary[1:]}.",
            epilog=epilog if examples else None,
            formatter_class=Formatter,
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
