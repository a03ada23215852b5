"""`diptych completion`: a script for a shell, made of the parser."""

import argparse
from collections.abc import Iterator

import shtab

MODEL = {"bash": "_diptych_models", "zsh": "_diptych_models"}
PREAMBLE = {
    "bash": """_diptych_models() { compgen -W "$(diptych list --names 2>/dev/null)" -- "$1"; }""",
    "zsh": """_diptych_models() { local -a names; names=(${(f)"$(diptych list --names 2>/dev/null)"}); compadd -a names; }""",
}


def run(options: argparse.Namespace) -> int:
    print(script(options.parser(), options.shell))
    return 0


def script(parser: argparse.ArgumentParser, shell: str) -> str:
    for action in _actions(parser):
        if isinstance(action, argparse._SubParsersAction):
            action.help = None  # what is hidden from the help is hidden from the script
        elif action.metavar == "MODEL":
            action.complete = MODEL  # type: ignore[attr-defined]
    return shtab.complete(parser, shell=shell, preamble=PREAMBLE.get(shell, ""))


def _actions(parser: argparse.ArgumentParser) -> Iterator[argparse.Action]:
    for action in parser._actions:
        yield action
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                yield from _actions(command)
