"""One conversation from its first prompt to its last: what is typed, what is answered, what Ctrl-C means when."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from runner.cli.backend import Source
from runner.cli.chat.background import Background
from runner.cli.chat.conversation import Conversation
from runner.cli.chat.prompt import Reader, write
from runner.errors import BadRequest, DiptychError, RunnerFailed
from runner.protocol.events import Event
from runner.protocol.text import TextChunk, TextDone
from runner.terminal import warn

HELP = '''\
  /set                  the options in force; /set NAME VALUE changes one, /set NAME is the model's own value again
  /system [TEXT]        what the model is told before everything; "" for nothing, without text: what it is now
  /save FILE, /load FILE
  /clear                forget what was said
  /help, /bye
  """                   begins and ends a prompt of several lines; so does a backslash at the end of a line
  Ctrl-C                stops an answer; twice at the prompt, or Ctrl-D, ends'''


class Session:
    """`show` takes the answer's words as they come."""

    def __init__(
        self,
        background: Background,
        source: Source,
        conversation: Conversation,
        verbose: bool = False,
        show: Callable[[str], None] = write,
    ) -> None:
        self._background = background
        self._source = source
        self._conversation = conversation
        self._verbose = verbose
        self._show = show
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "system": self._system,
            "save": self._save,
            "load": self._load,
            "clear": self._clear,
            "help": lambda rest: print(HELP),
        }

    def talk(self) -> None:
        """Until the user ends it."""
        print("/help says what can be done here; Ctrl-D ends")
        reader = Reader()
        try:
            self._loop(reader)
        finally:
            reader.close()

    def _loop(self, reader: Reader) -> None:
        interrupted = False
        while True:
            try:
                said = reader.read()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                if interrupted:
                    return
                interrupted = True
                print("Ctrl-C again, or Ctrl-D, ends")
                continue
            interrupted = False
            if said.strip() in ("/bye", "/exit", "/quit"):
                return
            self._do(said)

    def _do(self, said: str) -> None:
        """A prompt or a command. What goes wrong is said, and the conversation goes on."""
        try:
            if said.startswith("/"):
                self._command(said)
            elif said.strip():
                self.ask(said)
                print()
        except KeyboardInterrupt:
            print()
        except DiptychError as error:
            if self._source.over:
                raise
            warn(error.message)

    def ask(self, said: str) -> TextDone:
        """One question; its answer is shown as it comes, and remembered as far as it came. Returns the last event."""
        parts: list[str] = []
        try:
            done = self._background.run(self._answer(said, parts))
        finally:
            if parts:
                self._conversation.add(said, "".join(parts))
                self._show("" if parts[-1].endswith("\n") else "\n")
        if self._verbose:
            print(_speed(done), file=sys.stderr)
        return done

    async def _answer(self, said: str, parts: list[str]) -> TextDone:
        event: Event | None = None
        async with contextlib.aclosing(self._source.answer(self._conversation.request(said))) as events:
            async for event in events:
                if isinstance(event, TextChunk | TextDone) and event.content:
                    parts.append(event.content)
                    self._show(event.content)
        if not isinstance(event, TextDone):
            raise RunnerFailed("the model makes pictures, not text")
        return event

    # Commands

    def _command(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name.strip())
        if command is None:
            raise BadRequest(f"no command /{name.strip()[:40]}; /help lists them")
        command(rest.strip())

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name:
            self._conversation.set(name, value.strip())
        for option, found in sorted(self._conversation.options.items()):
            print(f"  {option} = {found}")
        if self._conversation.think is not None:
            print(f"  think = {'on' if self._conversation.think else 'off'}")

    def _system(self, rest: str) -> None:
        if rest:
            self._conversation.system = "" if rest == '""' else rest
        print(f"  system: {self._conversation.system or '(nothing)'}")

    def _save(self, rest: str) -> None:
        path = _path(rest)
        self._conversation.save(path)
        print(f"  {len(self._conversation.turns)} turns saved to {path}")

    def _load(self, rest: str) -> None:
        path = _path(rest)
        self._conversation.load(path)
        print(f"  {len(self._conversation.turns)} turns from {path}")

    def _clear(self, rest: str) -> None:
        self._conversation.turns.clear()
        print("  forgotten")


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise BadRequest("which file? /save FILE, /load FILE")
    return Path(os.path.expanduser(text))


def _speed(done: TextDone) -> str:
    def rate(count: int, took: int) -> str:
        return f"{count} tokens, {count * 1e9 / max(took, 1):.0f} a second"

    prompt = rate(done.prompt_eval_count, done.prompt_eval_duration)
    return f"prompt: {prompt}; answer: {rate(done.eval_count, done.eval_duration)}"
