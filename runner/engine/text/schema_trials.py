"""Trials of new schemas, queued so that slow schemas delay only other slow ones.

Nearly every schema of an allowed size compiles within milliseconds, so each gets a short trial, several at a time. One
that needs longer is started again in a second queue, one at a time and with a longer limit. Schemas that exceed that
limit are remembered and refused immediately.
"""

import threading
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager

from llguidance import LLMatcher, LLTokenizer

from runner.engine.text.json_schema import TooSlow, compile_grammar, try_grammar
from runner.errors import Busy

# Seconds of processor time.
SHORT, LONGEST = 0.25, 2.0
MAX_WAITING, MAX_SLOW = 64, 8
MAX_REFUSED = 256


class SchemaTrials:
    def __init__(self) -> None:
        self._short = _Queue(2, MAX_WAITING, "schemas are waiting to be compiled")
        self._long = _Queue(1, MAX_SLOW, "slow schemas are waiting to be compiled")
        self._refused: OrderedDict[str, str] = OrderedDict()
        self._lock = threading.Lock()

    def compile(self, vocabulary: LLTokenizer, grammar: str, trial: str) -> LLMatcher:
        """A new matcher for the grammar; `trial` is what to try in its place, without the model's vocabulary. Raises
        SchemaError if it cannot be compiled, Busy if too many are waiting."""
        with self._lock:
            if grammar in self._refused:
                raise TooSlow(self._refused[grammar])
        try:
            with self._short.place():
                try_grammar(trial, SHORT)
                return compile_grammar(vocabulary, grammar)
        except TooSlow:
            pass
        with self._long.place():
            try:
                try_grammar(trial, LONGEST)
            except TooSlow as error:
                self._remember(grammar, str(error))
                raise
            return compile_grammar(vocabulary, grammar)

    def _remember(self, grammar: str, why: str) -> None:
        with self._lock:
            self._refused[grammar] = why
            while len(self._refused) > MAX_REFUSED:
                self._refused.popitem(last=False)


class _Queue:
    """Admits a number of threads at a time, and a number of others that wait."""

    def __init__(self, running: int, waiting: int, busy_message: str) -> None:
        self._running = threading.Semaphore(running)
        self._places = threading.Semaphore(running + waiting)
        self._max_waiting = waiting
        self._busy_message = busy_message

    @contextmanager
    def place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise Busy(f"format: {self._max_waiting} {self._busy_message}", retry_after=5)
        try:
            with self._running:
                yield
        finally:
            self._places.release()
