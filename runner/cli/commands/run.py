"""`diptych run`: chat with a model that writes, draw with one that draws."""

import argparse
import logging
import sys

from runner.cli.backend import choose
from runner.cli.chat.background import Background
from runner.cli.chat.prompt import Reader
from runner.cli.commands import chat
from runner.cli.commands.draw import DrawOptions, Session, draw, request_of
from runner.cli.output import Target
from runner.errors import BadRequest, DiptychError
from runner.inspect.detect import check_runnable
from runner.sources import ModelFiles, ModelMode, find
from runner.terminal import warn

ENDS = ("/bye", "/exit", "/quit")


def run(options: argparse.Namespace) -> int:
    options.prompt = " ".join(options.prompt)
    files = find(options.model)
    if check_runnable(files).mode is ModelMode.TEXT:
        return chat.run(options)
    if not options.prompt and sys.stdin.isatty() and sys.stdout.isatty():
        _talk(options, files)
        return 0
    prompt = options.prompt or sys.stdin.buffer.read().decode("utf-8", "replace").strip()
    if not prompt:
        raise BadRequest("the prompt is empty: write it after the model, or give one on standard input")
    return draw(DrawOptions({"prompt": prompt}, model=options.model), options.configuration)


def _talk(options: argparse.Namespace, files: ModelFiles) -> None:
    """A picture for each line, from a model that stays loaded."""
    logging.getLogger("diptych").addHandler(logging.NullHandler())
    with Background() as background:
        backend = background.run(choose(options.model, files, options.configuration))
        try:
            chat.start(background, backend)
            print("Describe a picture; Ctrl-D exits")
            reader = Reader()
            try:
                while (prompt := _read(reader)) is not None:
                    if not prompt:
                        continue
                    session = Session(Target(None, prompt, "png", 1), None, as_json=False)
                    try:
                        background.run(
                            session.draw(backend, request_of(DrawOptions({"prompt": prompt}), "png"))
                        )
                    except KeyboardInterrupt:
                        print("stopped", file=sys.stderr)
                    except DiptychError as error:
                        warn(error.message)
                        if backend.has_exited:
                            return
            finally:
                reader.close()
        finally:
            background.run(backend.close())


def _read(reader: Reader) -> str | None:
    """The next prompt; None at the end."""
    try:
        line = reader.read().strip()
    except (EOFError, KeyboardInterrupt):
        print()
        return None
    return None if line in ENDS else line
