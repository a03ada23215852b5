"""Arguments to commands, nothing else."""

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Any

from runner.arguments import MODEL_HELP, Command, models, natural, pictures, running, serve
from runner.config import load, model_arguments
from runner.errors import DiptychError


def main(arguments: Sequence[str] | None = None) -> None:
    """The `diptych` command."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    # `python -m runner --model …` means the runner itself.
    if given and given[0] in ("--model", "--port"):
        given = ["runner", *given]
    try:
        options = _configured(_parser(), given)
        command: Command = options.command
        code = command(options)
    except DiptychError as error:
        print(f"diptych: {error.message}", file=sys.stderr)
        code = error.exit_code
    except KeyboardInterrupt:
        code = 130
    except BrokenPipeError:
        # Whoever read the output has gone; there is nobody to write to, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 141
    raise SystemExit(code)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="diptych", description="One runner for text and pictures on MLX.")
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and end")
    parser.add_argument(
        "--config", metavar="FILE", help="configuration (default: DIPTYCH_CONFIG, or the user's)"
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    _add_runner(commands)
    _add_detect(commands)
    models.add(commands)
    pictures.add(commands)
    running.add(commands)
    serve.add(commands)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *rest: Any) -> None:
        from importlib import metadata  # takes longer to import than everything else here

        print(f"diptych {metadata.version('diptych')}")
        parser.exit()


def _configured(parser: argparse.ArgumentParser, given: list[str]) -> argparse.Namespace:
    """The options, with the configuration for whoever wants it, and with models in place of their aliases.

    A runner that a user starts takes what the configuration says of its model, unless its own flags say otherwise.
    """
    options = parser.parse_args(given)
    config = load(options.config)
    if getattr(options, "supervised", None) is False:
        at = given.index("runner") + 1
        options = parser.parse_args([*given[:at], *model_arguments(config.model(options.model)), *given[at:]])
    options.configuration = config
    if isinstance(named := getattr(options, "model", None), list):
        options.model = [config.resolve(name) for name in named]
    elif named is not None:
        options.model = config.resolve(named)
    return options


def _add_runner(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "runner",
        help="serve one model over HTTP",
        description="Serve one model on the native wire contract. Logs go to stderr, a line each.",
    )
    parser.set_defaults(command=_runner)
    add = parser.add_argument
    add("--model", required=True, metavar="M", help=MODEL_HELP)
    add("--port", required=True, type=_port, metavar="P", help="0 takes a free one and prints it on stdout")
    add("--host", default="127.0.0.1", help="address to listen on (default %(default)s)")
    add(
        "--api-key",
        default=os.environ.get("DIPTYCH_API_KEY"),
        metavar="KEY",
        help="clients must send it as a bearer token; needed beyond loopback",
    )
    add(
        "--queue",
        type=natural,
        default=512,
        metavar="N",
        help="requests that may wait (default %(default)s)",
    )
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
        type=_size,
        metavar="SIZE",
        help="prefix cache, such as 2GB or 0 (default: a tenth of the device's memory)",
    )
    add(
        "--dtype",
        choices=("auto", "float32", "checkpoint"),
        default="auto",
        help="auto: the checkpoint's, but float32 for half precision on a processor",
    )
    pictures.add_loading(parser)
    add("--verbose", action="store_true", help="log more")
    add("--log-format", choices=("text", "json"), default="text", help="(default %(default)s)")
    # Set by the process that starts us: stdin is a pipe whose end is that process's end.
    add("--supervised", action="store_true", help=argparse.SUPPRESS)


def _add_detect(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    parser = commands.add_parser(
        "detect",
        help="say what a model is",
        description="Say what a model is and whether it can be run, from its JSON files alone.",
    )
    parser.set_defaults(command=_detect)
    parser.add_argument("model", metavar="M", help=MODEL_HELP)
    parser.add_argument("--json", action="store_true", help="as JSON")


def _runner(options: argparse.Namespace) -> int:
    from runner import logs
    from runner.serve import RunnerSettings, run

    logs.setup(options.verbose, options.log_format)
    return run(
        RunnerSettings(
            model=options.model,
            port=options.port,
            host=options.host,
            queue=options.queue,
            batch=options.batch,
            cache_bytes=options.cache_bytes,
            context=options.context,
            kv_bits=options.kv_bits,
            dtype=options.dtype,
            quantize=options.quantize,
            memory=options.memory,
            api_key=options.api_key,
            supervised=options.supervised,
        )
    )


def _detect(options: argparse.Namespace) -> int:
    from runner.detect import detect, render

    found = detect(options.model)
    print(render(found, as_json=options.json))
    return 0 if found.supported else 1


def _port(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() else -1
    if not 0 <= number <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; 0 to 65535 are")
    return number


def _size(text: str) -> int:
    from runner.memory import parse_size

    try:
        return parse_size(text)
    except (DiptychError, ValueError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None
