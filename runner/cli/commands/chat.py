"""`diptych chat`: a conversation in the terminal, or one answer where no terminal is."""

import argparse
import logging
import sys

import msgspec

from runner.cli.backend import Source, choose
from runner.cli.chat.background import Background
from runner.cli.chat.conversation import Conversation
from runner.cli.chat.session import Session
from runner.cli.steps import Steps
from runner.config import Config
from runner.errors import BadRequest
from runner.inspect.detect import check_runnable
from runner.inspect.sample import announce, sample
from runner.library import installed
from runner.sources import ModelFiles, ModelMode, find
from runner.terminal import print_json


def run(options: argparse.Namespace) -> int:
    model = options.model or _only_text_model(options.configuration)
    conversation = Conversation(model, system=options.system or "")
    for given in options.set or ():
        name, _, value = given.partition("=")
        conversation.set(name.strip(), value.strip())
    terminal = sys.stdin.isatty() and sys.stdout.isatty() and not options.json
    said = "" if terminal else sys.stdin.buffer.read().decode("utf-8", "replace")
    if not terminal and not said.strip():
        raise BadRequest(
            "nothing was asked: the prompt is read from stdin where that is no terminal, and it is empty"
        )
    files = _text_model(model)
    # What goes wrong is said as an error; the log of a runner is not for this screen.
    logging.getLogger("diptych").addHandler(logging.NullHandler())
    with Background() as background:
        source = background.run(choose(model, files, options.configuration))
        try:
            _start(background, source)
            if terminal:
                Session(background, source, conversation, options.verbose).talk()
            elif options.json:
                _answer_as_json(background, source, conversation, said)
            else:
                Session(background, source, conversation, options.verbose).ask(said)
        finally:
            background.run(source.close())
    return 0


def _start(background: Background, source: Source) -> None:
    steps = Steps()
    try:
        background.run(source.start(steps.loading))
    finally:
        steps.clear()


def _answer_as_json(background: Background, source: Source, conversation: Conversation, said: str) -> None:
    done = Session(background, source, conversation, show=lambda text: None).ask(said)
    answer = conversation.turns[-1].content if conversation.turns else ""
    fields = msgspec.to_builtins(done)
    report = {name: value for name, value in fields.items() if name not in ("done", "content")}
    print_json({"model": conversation.model, "answer": answer, **report})


def _text_model(model: str) -> ModelFiles:
    files = find(model)
    if check_runnable(files).mode is not ModelMode.TEXT:
        raise BadRequest(f"{model} makes pictures; `diptych draw` asks it for them")
    return files


def _only_text_model(config: Config) -> str:
    """The model when none is named: the one that there is."""
    names = [
        model.name
        for model in installed(config.aliases).models
        if model.mode is ModelMode.TEXT and model.fault is None
    ]
    if len(names) == 1:
        return names[0]
    if not names:
        announce(ModelMode.TEXT, "diptych chat")
        return sample(ModelMode.TEXT)
    raise BadRequest(f"which model? There are {', '.join(names[:20])}")
