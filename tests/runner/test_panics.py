"""A panic of a library in Rust is an error like any other: an answer in JSON, and the process lives."""

import asyncio
from typing import Any

import pytest

from runner.engine.text.prompts import Prompts
from runner.errors import RunnerFailed
from runner.panics import is_failure
from runner.protocol.text_rules import parse_text
from runner.threads import run_in_daemon_thread


class PanicException(BaseException):
    """As pyo3 makes it, beside Exception."""


class Panicking:
    bos_token = None
    bos_token_id = None

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        raise PanicException("byte index 3 is not a char boundary")

    def decode(self, tokens: list[int]) -> str:
        raise PanicException("index out of bounds")


def test_a_panic_is_a_failure_and_an_exit_is_not() -> None:
    assert is_failure(PanicException())
    assert is_failure(ValueError())
    for error in (SystemExit(), KeyboardInterrupt(), asyncio.CancelledError()):
        assert not is_failure(error)


def test_a_tokenizer_that_panics_is_told_with_what_it_said() -> None:
    tokenizer = Panicking()
    prompts = Prompts(tokenizer, 100, 20, (9,), tokenizer.encode)
    calls: list[Any] = [
        lambda: prompts.generate(parse_text({"prompt": "x"})),
        lambda: prompts.tokenize("x"),
        lambda: prompts.embed(["x"]),
        lambda: prompts.detokenize([1]),
    ]
    for call in calls:
        with pytest.raises(RunnerFailed, match=r"tokenizer crashed on this \w+: (byte index|index out)"):
            call()


def test_work_aside_that_panics_is_not_waited_for_for_ever() -> None:
    def work() -> None:
        raise PanicException("oh")

    async def main() -> None:
        with pytest.raises(RuntimeError, match="PanicException: oh"):
            await asyncio.wait_for(run_in_daemon_thread(work), 60)

    asyncio.run(main())
