"""An interactive conversation: prompts, answers, commands, and Ctrl-C."""

import contextlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from runner.cli.backend import Backend
from runner.cli.chat.background import Background
from runner.cli.chat.conversation import Conversation
from runner.cli.chat.prompt import Reader, write
from runner.errors import BadRequest, DiptychError, RunnerFailed
from runner.protocol.events import Event
from runner.protocol.text import TextChunk, TextDone
from runner.terminal import warn

HELP = '''\
  /set                  show the options; /set NAME VALUE sets one, /set NAME resets it to the model's default
  /system [TEXT]        show or set the system prompt; /system "" removes it
  /image FILE           show the model a picture with the next prompt; several are shown together
  /save FILE            save the conversation
  /load FILE            continue a saved conversation
  /clear                start over
  /help                 show this help
  /bye                  exit
  """                   starts and ends a prompt of several lines; a backslash at the end of a line continues it
  Ctrl-C                stops an answer; twice at the prompt, or Ctrl-D, exits'''


class Session:
    """`show` is called with each piece of an answer."""

    def __init__(
        self,
        background: Background,
        backend: Backend,
        conversation: Conversation,
        verbose: bool = False,
        show: Callable[[str], None] = write,
    ) -> None:
        self._background = background
        self._backend = backend
        self._conversation = conversation
        self._verbose = verbose
        self._show = show
        self._commands: dict[str, Callable[[str], None]] = {
            "set": self._set,
            "system": self._system,
            "image": self._image,
            "save": self._save,
            "load": self._load,
            "clear": self._clear,
            "help": lambda rest: print(HELP),
        }

    def talk(self) -> None:
        """Converse until the user exits."""
        print("Type /help for help, Ctrl-D to exit")
        reader = Reader()
        try:
            self._loop(reader)
        finally:
            reader.close()

    def _loop(self, reader: Reader) -> None:
        interrupted = False
        while True:
            try:
                line = reader.read()
            except EOFError:
                print()
                return
            except KeyboardInterrupt:
                print()
                if interrupted:
                    return
                interrupted = True
                print("Ctrl-C again, or Ctrl-D, exits")
                continue
            interrupted = False
            if line.strip() in ("/bye", "/exit", "/quit"):
                return
            self._handle(line)

    def _handle(self, line: str) -> None:
        """Run a command or answer a prompt. After an error the conversation goes on, unless the backend has ended."""
        try:
            if line.startswith("/"):
                self._command(line)
            elif line.strip():
                self.ask(line)
                print()
        except KeyboardInterrupt:
            print()
        except DiptychError as error:
            if self._backend.has_exited:
                raise
            warn(error.message)

    def ask(self, prompt: str) -> TextDone:
        """Show the answer as it comes and add it to the conversation, complete or not. Returns the last event."""
        parts: list[str] = []
        try:
            done = self._background.run(self._answer(prompt, parts))
        except DiptychError:
            if self._conversation.pictures and not parts:
                self._conversation.pictures.clear()  # a picture that is refused once is refused again
            raise
        finally:
            if parts:
                self._conversation.add(prompt, "".join(parts))
                self._show("" if parts[-1].endswith("\n") else "\n")
        if self._verbose:
            print(_speed(done), file=sys.stderr)
        return done

    async def _answer(self, prompt: str, parts: list[str]) -> TextDone:
        event: Event | None = None
        async with contextlib.aclosing(
            self._backend.completion(self._conversation.request(prompt))
        ) as events:
            async for event in events:
                if isinstance(event, TextChunk | TextDone) and event.content:
                    parts.append(event.content)
                    self._show(event.content)
        if not isinstance(event, TextDone):
            raise RunnerFailed("the model draws pictures; it does not generate text")
        return event

    # Commands

    def _command(self, line: str) -> None:
        name, _, rest = line[1:].partition(" ")
        command = self._commands.get(name.strip())
        if command is None:
            raise BadRequest(f"unknown command /{name.strip()[:40]}; /help lists the commands")
        command(rest.strip())

    def _set(self, rest: str) -> None:
        name, _, value = rest.partition(" ")
        if name:
            self._conversation.set(name, value.strip())
        for option, setting in sorted(self._conversation.options.items()):
            print(f"  {option} = {setting}")
        if self._conversation.think is not None:
            print(f"  think = {'on' if self._conversation.think else 'off'}")

    def _system(self, rest: str) -> None:
        if rest:
            self._conversation.system = "" if rest == '""' else rest
        print(f"  system: {self._conversation.system or '(none)'}")

    def _image(self, rest: str) -> None:
        self._conversation.show(_path(rest, "/image FILE"))
        count = len(self._conversation.pictures)
        print(f"  {count} {'picture goes' if count == 1 else 'pictures go'} with the next prompt")

    def _save(self, rest: str) -> None:
        path = _path(rest)
        self._conversation.save(path)
        print(f"  saved {len(self._conversation.turns)} messages to {path}")

    def _load(self, rest: str) -> None:
        path = _path(rest)
        self._conversation.load(path)
        print(f"  loaded {len(self._conversation.turns)} messages from {path}")

    def _clear(self, rest: str) -> None:
        self._conversation.turns.clear()
        self._conversation.pictures.clear()
        print("  conversation cleared")


def _path(text: str, usage: str = "/save FILE or /load FILE") -> Path:
    if not text or "\0" in text:
        raise BadRequest(f"no file was given: use {usage}")
    return Path(os.path.expanduser(text))


def _speed(done: TextDone) -> str:
    def rate(count: int, nanoseconds: int) -> str:
        return f"{count} tokens, {count * 1e9 / max(nanoseconds, 1):.0f} tokens/s"

    prompt = rate(done.prompt_eval_count, done.prompt_eval_duration)
    return f"prompt: {prompt}; answer: {rate(done.eval_count, done.eval_duration)}"
