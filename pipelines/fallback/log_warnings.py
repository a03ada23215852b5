"""Diffusers' log messages about a call that its client should see."""

import logging
import re
from types import TracebackType
from typing import Self

# A prompt was cut; a value has no effect.
RELEVANT = re.compile(r"truncated|ignored")
LONGEST = 300
MOST = 4


class LoggedWarnings(logging.Handler):
    """`messages`: the warnings that were logged while it was entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: dict[str, None] = {}

    def __enter__(self) -> Self:
        logging.getLogger("diffusers").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("diffusers").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if RELEVANT.search(text) and len(self.messages) < MOST:
            self.messages[text if len(text) <= LONGEST else f"{text[:LONGEST]}…"] = None
