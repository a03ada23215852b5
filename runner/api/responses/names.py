"""Errors of a chat in the words of the Responses API: they name the field that was sent."""

import re
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from runner.errors import DiptychError

T = TypeVar("T")

NAMES = {
    "max_completion_tokens": "max_output_tokens",
    "num_predict": "max_output_tokens",
    "max_tokens": "max_output_tokens",
    "response_format.json_schema": "text.format",
    "response_format": "text.format",
    "format": "text.format",
    "grammar": "tools.format.definition",
    "reasoning_effort": "reasoning.effort",
    "messages": "input",
    "prompt": "input",
    "content": "input",
}
FIELD = re.compile(
    rf"(?:options\.)?({'|'.join(map(re.escape, NAMES))})(?:\[\d+\](?:\.content)?)?(?=[\s.:\[])"
)
TOOL = re.compile(r"(tools\[(?:\d+|\.\.\.)\])\.function")


def own_name(error: DiptychError) -> DiptychError:
    """The same error, for the field that was sent."""
    message = TOOL.sub(r"\1", error.message)
    if match := FIELD.match(message):
        message = NAMES[match.group(1)] + message[match.end() :]
    error.message = message
    return error


def named(work: Callable[[], Coroutine[Any, Any, T]]) -> Callable[[], Coroutine[Any, Any, T]]:
    """The same work, with errors in these words."""

    async def run() -> T:
        with own_names():
            return await work()

    return run


@contextmanager
def own_names() -> Iterator[None]:
    try:
        yield
    except DiptychError as error:
        raise own_name(error) from None
