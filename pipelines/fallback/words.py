"""What diffusers says of a call in its log, where the one who asked should hear it."""

import logging
import re
from types import TracebackType
from typing import Self

# A prompt that was cut; a value that does nothing.
WORTH = re.compile(r"truncated|ignored")
LONGEST = 300
MOST = 4


class Overheard(logging.Handler):
    """`words`: the warnings that were logged while it was entered."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.words: dict[str, None] = {}

    def __enter__(self) -> Self:
        logging.getLogger("diffusers").addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("diffusers").removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        text = " ".join(record.getMessage().split())
        if WORTH.search(text) and len(self.words) < MOST:
            self.words[text if len(text) <= LONGEST else f"{text[:LONGEST]}…"] = None
