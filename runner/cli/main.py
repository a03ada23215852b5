"""The `diptych` command: from arguments to a command, and from its errors to an exit code."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from runner.cli.arguments import backend, bench, draw, mcp, models, runner, serve
from runner.cli.parser import Command, Commands, Formatter, Parser
from runner.config import load
from runner.errors import DiptychError

OWN_PACKAGES = ("runner", "pipelines", "models")

EPILOG = """\
examples:
  diptych draw "a red circle above a blue square"
  diptych chat Qwen/Qwen3-0.6B
  diptych serve

`diptych COMMAND --help` explains a command and its options.
Exit codes: 0 success, 1 failure, 2 wrong usage or configuration, 3 model not found, 4 gateway not running, 130 interrupted."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command that the arguments name, and exit."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # `python -m runner --model …` runs the runner itself.
    if arguments and arguments[0] in ("--model", "--port"):
        arguments = ["runner", *arguments]
    _open_standard_files()
    try:
        _check_current_folder()
        code = _run(arguments)
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
        print("diptych: interrupted", file=sys.stderr)
        code = 130
    except BrokenPipeError:
        _discard_output()  # the reader of our output has gone
        code = 141
    except OSError as error:
        # A full disk, or a folder that was removed meanwhile.
        where = f"{error.filename}: " if error.filename else ""
        print(f"diptych: {where}{error.strerror or error}", file=sys.stderr)
        _discard_output()
        code = 1
    raise SystemExit(code)


def _run(arguments: Sequence[str]) -> int:
    if not arguments:
        from runner.cli.commands import welcome

        return welcome.run()
    options = _parser().parse_args(arguments)
    options.parser = _parser
    if not getattr(options, "loads_configuration", False):
        _configure(options)
    command: Command = options.command
    return command(options)


def _open_standard_files() -> None:
    """If one of them is closed, the next file or connection that is opened would take its number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115 - for as long as the process lives


def _check_current_folder() -> None:
    """In a folder that was removed, much fails with misleading errors, even in Python itself."""
    try:
        os.getcwd()
    except OSError as error:
        raise DiptychError(f"the current folder no longer exists ({error.strerror})") from None


def _discard_output() -> None:
    """Send the rest of the output nowhere; Python would fail on flushing it at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _parser() -> Parser:
    parser = Parser(
        prog="diptych", usage="diptych [--config FILE] COMMAND ...", formatter_class=Formatter, epilog=EPILOG
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version and exit")
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="configuration file (default: $DIPTYCH_CONFIG, else ~/.config/diptych/config.toml)",
    )
    commands = Commands(parser)
    for arguments in (runner, models, draw, backend, serve, mcp, bench):
        arguments.add(commands)
    parser.description = f"Run text and picture models on this machine, with MLX.\n\n{commands.overview()}"
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from importlib import metadata  # slower to import than everything else here

        print(f"diptych {metadata.version('diptych')}")
        parser.exit()


def _configure(options: argparse.Namespace) -> None:
    """Add the configuration to the options, and put models in place of their aliases."""
    config = options.configuration = load(options.config)
    model = getattr(options, "model", None)
    options.typed = model
    if isinstance(model, list):
        options.model = [config.resolve(name) for name in model]
    elif model is not None:
        options.model = config.resolve(model)
