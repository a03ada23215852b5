"""`diptych chat`: a conversation on a terminal, or a single answer without one."""

import argparse
import logging
import sys
from pathlib import Path

import msgspec

from runner.cli.backend import Backend, choose
from runner.cli.chat.background import Background
from runner.cli.chat.conversation import Conversation
from runner.cli.chat.session import Session
from runner.cli.model_names import only_model
from runner.cli.progress import Steps
from runner.errors import BadRequest
from runner.inspect.detect import check_runnable
from runner.sources import ModelFiles, ModelMode, find
from runner.terminal import print_json


def run(options: argparse.Namespace) -> int:
    model = options.model or only_model(options.configuration, ModelMode.TEXT, "diptych chat")
    conversation = Conversation(model, system=options.system or "")
    for assignment in options.set or ():
        name, equals, value = assignment.partition("=")
        if not equals:
            raise BadRequest(f"--set {assignment}: a value is missing; write --set {name or 'NAME'}=VALUE")
        conversation.set(name.strip(), value.strip())
    for path in getattr(options, "image", ()):
        conversation.show(Path(path))
    prompt = getattr(options, "prompt", "")
    terminal = not prompt and sys.stdin.isatty() and sys.stdout.isatty() and not options.json
    prompt = prompt or ("" if terminal else sys.stdin.buffer.read().decode("utf-8", "replace"))
    if not terminal and not prompt.strip():
        raise BadRequest("the prompt is empty: give one on standard input")
    files = _text_model(model)
    # Failures are raised as errors; the log does not belong on this screen.
    logging.getLogger("diptych").addHandler(logging.NullHandler())
    with Background() as background:
        backend = background.run(choose(model, files, options.configuration))
        try:
            start(background, backend)
            if terminal:
                Session(background, backend, conversation, options.verbose).talk()
            elif options.json:
                _answer_as_json(background, backend, conversation, prompt)
            else:
                Session(background, backend, conversation, options.verbose).ask(prompt)
        finally:
            background.run(backend.close())
    return 0


def start(background: Background, backend: Backend) -> None:
    steps = Steps()
    try:
        background.run(backend.start(steps.loading))
    finally:
        steps.clear()


def _answer_as_json(
    background: Background, backend: Backend, conversation: Conversation, prompt: str
) -> None:
    done = Session(background, backend, conversation, show=lambda text: None).ask(prompt)
    answer = conversation.turns[-1].content if conversation.turns else ""
    fields = msgspec.to_builtins(done)
    report = {name: value for name, value in fields.items() if name not in ("done", "content")}
    print_json({"model": conversation.model, "answer": answer, **report})


def _text_model(model: str) -> ModelFiles:
    files = find(model)
    if check_runnable(files).mode is not ModelMode.TEXT:
        raise BadRequest(f"{model} is a picture model; use it with `diptych draw`")
    return files
