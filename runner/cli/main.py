"""Arguments to commands, nothing else."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from runner.cli.arguments import backend, bench, draw, models, runner, serve
from runner.cli.parser import Command
from runner.config import load, model_arguments
from runner.errors import DiptychError

OWN_PACKAGES = ("runner", "pipelines", "models")


def main(arguments: Sequence[str] | None = None) -> None:
    """The `diptych` command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `python -m runner --model …` means the runner itself.
    if given and given[0] in ("--model", "--port"):
        given = ["runner", *given]
    _open_standard_files()
    try:
        _check_place()
        options = _configured(_parser(), given)
        command: Command = options.command
        code = command(options)
        sys.stdout.flush()
    except DiptychError as error:
        print(f"diptych: {error.message}", file=sys.stderr)
        code = error.exit_code
    except ImportError as error:
        from runner.engine.device import explain_import_error

        if (error.name or "").partition(".")[0] in OWN_PACKAGES:
            raise
        print(f"diptych: {explain_import_error(error)}", file=sys.stderr)
        code = 1
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        _say_no_more()  # whoever read the output has gone
        code = 141
    except OSError as error:
        # A disk that is full, a folder that went away meanwhile: nobody's mistake.
        where = f"{error.filename}: " if error.filename else ""
        print(f"diptych: {where}{error.strerror or error}", file=sys.stderr)
        _say_no_more()
        code = 1
    raise SystemExit(code)


def _open_standard_files() -> None:
    """Started without one of them, the next file or connection to be opened would be taken for it."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def _check_place() -> None:
    """Much fails oddly in a folder that is no more, Python's own parts among it."""
    try:
        os.getcwd()
    except OSError as error:
        raise DiptychError(
            f"the folder this was started in is not there any more ({error.strerror})"
        ) from None


def _say_no_more() -> None:
    """What is still to be written goes nowhere, or Python would fail on it once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="diptych",
        description="One runner for text and pictures on MLX.",
        epilog="exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no such model, 4 no gateway, 130 interrupted",
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    parser.add_argument(
        "--config", metavar="FILE", help="configuration (default: DIPTYCH_CONFIG, or the user's)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    runner.add(commands)
    models.add(commands)
    draw.add(commands)
    backend.add(commands)
    serve.add(commands)
    bench.add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from importlib import metadata  # takes longer to import than everything else here

        print(f"diptych {metadata.version('diptych')}")
        parser.exit()


def _configured(parser: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """The options, with the configuration for whoever wants it, and with models in place of their aliases.

    A runner takes what the configuration says of its model, unless its own flags say otherwise; one with a supervisor is
    told everything by it. A command that goes on with a broken one loads it itself.
    """
    options = parser.parse_args(given)
    supervised = getattr(options, "supervised", None)
    if supervised or getattr(options, "loads_configuration", False):
        return options
    config = load(options.config)
    if supervised is False:
        at = given.index("runner") + 1
        options = parser.parse_args([*given[:at], *model_arguments(config.model(options.model)), *given[at:]])
    options.configuration = config
    if isinstance(named := getattr(options, "model", None), list):
        options.model = [config.resolve(name) for name in named]
    elif named is not None:
        options.model = config.resolve(named)
    return options
