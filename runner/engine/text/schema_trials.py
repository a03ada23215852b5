"""Schemas that have not been compiled yet, tried so that a slow one keeps only slow ones waiting.

Nearly every schema compiles within milliseconds, at any size that is accepted. So each gets a short trial, some at a time.
What needs longer begins again in another queue, one at a time and up to a limit; what is over the limit is remembered,
and refused at once the next time.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from llguidance import LLMatcher, LLTokenizer

from runner.engine.text.json_schema import TooSlow, compile_schema, try_schema
from runner.errors import Busy

# Seconds of processor time.
SHORT, LONGEST = 0.25, 2.0
MOST_WAITING, MOST_SLOW = 64, 8
REMEMBERED = 256


class SchemaTrials:
    def __init__(self) -> None:
        self._short = _Queue(2, MOST_WAITING, "schemas wait to be compiled")
        self._long = _Queue(1, MOST_SLOW, "schemas that take long to compile wait for each other")
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, vocabulary: LLTokenizer, schema: str) -> LLMatcher:
        """A matcher at the beginning of the schema's grammar; SchemaError says why not, Busy that too many wait."""
        with self._lock:
            if schema in self._refused:
                raise TooSlow(self._refused[schema])
        try:
            with self._short.place():
                try_schema(schema, SHORT)
                return compile_schema(vocabulary, schema)
        except TooSlow:
            pass
        with self._long.place():
            try:
                try_schema(schema, LONGEST)
            except TooSlow as error:
                self._remember(schema, str(error))
                raise
            return compile_schema(vocabulary, schema)

    def _remember(self, schema: str, why: str) -> None:
        with self._lock:
            self._refused[schema] = why
            while len(self._refused) > REMEMBERED:
                self._refused.popitem(last=False)


class _Queue:
    """So many threads at work, and so many more that wait."""

    def __init__(self, at_work: int, waiting: int, full: str) -> None:
        self._at_work = threading.Semaphore(at_work)
        self._places = threading.Semaphore(at_work + waiting)
        self._most = waiting
        self._full = full

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy(f"format: {self._most} {self._full}", retry_after=5)
        try:
            with self._at_work:
                yield
        finally:
            self._places.release()
