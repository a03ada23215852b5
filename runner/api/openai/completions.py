"""/v1/completions: a prompt's continuation, without a chat template."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Any

from msgspec import UNSET, Meta

from runner.api.lease import ask, leased, side_by_side, sse
from runner.api.openai.chat_stream import DONE
from runner.api.openai.sampling import (
    MOST_CHOICES,
    STREAM_RULE,
    Sampling,
    check_stream_options,
    options,
    usage,
)
from runner.api.openai.schemas import Completion, FormerLogprobs, Stop, TextChoice, Usage
from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.proxy import keep_alive_seconds
from runner.http import rules
from runner.process.supervisor import Event
from runner.protocol.text import parse
from runner.sources import ModelMode

DEFAULT_LENGTH = 16  # OpenAI's
Input = str | list[str | int | list[int]]


# All of one kind, and not empty.
INPUT_RULE = rules.either(
    {"type": "string"},
    *({"type": "array", "minItems": 1, "items": {"type": kind}} for kind in ("string", "integer")),
    {"type": "array", "minItems": 1, "items": {"type": "array"}},
)
Given = Annotated[Input, Meta(extra_json_schema={"allOf": [INPUT_RULE]})]
RULES = (
    STREAM_RULE,
    rules.is_absent("suffix"),
    rules.either(
        {"properties": {"best_of": {"type": "null"}}},
        {"properties": {"best_of": {"const": 1}, "n": {"enum": [None, 1]}}},
    ),
    rules.either(rules.is_absent("echo"), {"properties": {"logprobs": {"type": "null"}}}),
)


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    prompt: Given
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None


def inputs(value: Input, name: str) -> list[str | list[int]]:
    """A string, token ids, or a list of either, as a list of them."""
    if isinstance(value, str):
        return [value]
    numbers = [item for item in value if isinstance(item, int)]
    if numbers and len(numbers) == len(value):
        return [numbers]
    texts = [item for item in value if not isinstance(item, int)]
    if not texts or numbers:
        raise BadRequest(
            f"{name}: text, a list of token ids, or a list of either is needed, and not an empty one"
        )
    return texts


async def texts(lease: Lease, given: list[str | list[int]]) -> list[str]:
    return [
        item if isinstance(item, str) else str((await ask(lease, "/detokenize", {"tokens": item}))["content"])
        for item in given
    ]


class CompletionAnswer:
    def __init__(self, gateway: Gateway, body: dict[str, Any], id: str) -> None:
        self._gateway = gateway
        self.asked = parse(CompletionRequest, body)
        self._id = id
        self._given = inputs(self.asked.prompt, "prompt")
        self._check()
        self._keep_alive = keep_alive_seconds(self.asked.keep_alive)
        self._prompts: list[str] = []
        self._offsets: list[int] = []  # where each choice's text has got to, for its log probabilities
        self._done: dict[int, Event] = {}
        self._head = (f"cmpl-{uuid.uuid4().hex}", int(time.time()), self.asked.model)

    def _check(self) -> None:
        asked = self.asked
        check_stream_options(asked)
        if asked.suffix:
            raise BadRequest(
                "suffix: filling in between is not supported; put all that comes before into prompt"
            )
        if asked.best_of is not None and asked.best_of != (asked.n or 1):
            raise BadRequest("best_of: choosing among hidden answers is not supported; use n")
        if asked.echo and asked.logprobs is not None:
            raise BadRequest("echo: with logprobs it would need those of the prompt, which are not computed")
        if len(self._given) * (asked.n or 1) > MOST_CHOICES:
            raise BadRequest(f"n: {len(self._given)} prompts times n are more than {MOST_CHOICES} choices")

    def _natives(self) -> list[dict[str, Any]]:
        asked = self.asked
        length = DEFAULT_LENGTH if asked.max_tokens is None else asked.max_tokens
        logprobs = {} if asked.logprobs is None else {"logprobs": True, "top_logprobs": asked.logprobs}
        return [
            {"prompt": prompt, "options": options(asked, length, index), **logprobs}
            for prompt in self._prompts
            for index in range(asked.n or 1)
        ]

    async def _events(self) -> AsyncGenerator[tuple[int, Event], None]:
        async with leased(
            self._gateway, self.asked.model, ModelMode.TEXT, self._keep_alive, self._id
        ) as lease:
            self._prompts = await texts(lease, self._given)
            natives = self._natives()
            self._offsets = [0] * len(natives)
            async with aclosing(side_by_side(lease, natives, self._id)) as events:
                async for index, event in events:
                    if event.get("done"):
                        self._done[index] = event
                    yield index, event

    def _prompt(self, index: int) -> str:
        return self._prompts[index // (self.asked.n or 1)]

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        async with aclosing(self._events()) as events:
            async for index, event in events:
                text = event.get("content", "")
                if index not in begun and self.asked.echo:
                    text = self._prompt(index) + text
                begun.add(index)
                logprobs = self._logprobs(index, [event])
                if text or event.get("logprobs") or event.get("done"):
                    choice = self._choice(index, text, logprobs, event if event.get("done") else None)
                    usage = None if self.asked.usage_streamed else UNSET
                    yield sse(Completion(*self._head, choices=[choice], usage=usage))
        if self.asked.usage_streamed:
            yield sse(Completion(*self._head, choices=[], usage=self._usage()))
        yield DONE

    async def whole(self) -> Completion:
        found: dict[int, list[Event]] = {}
        async with aclosing(self._events()) as events:
            async for index, event in events:
                found.setdefault(index, []).append(event)
        choices = []
        for index in sorted(found):
            text = "".join(event.get("content", "") for event in found[index])
            text = self._prompt(index) + text if self.asked.echo else text
            choices.append(self._choice(index, text, self._logprobs(index, found[index]), found[index][-1]))
        return Completion(*self._head, choices=choices, usage=self._usage())

    def _choice(
        self, index: int, text: str, logprobs: FormerLogprobs | None, done: Event | None
    ) -> TextChoice:
        finish: Stop | None = None if done is None else "length" if done["done_reason"] else "stop"
        return TextChoice(index, text, logprobs, finish)

    def _logprobs(self, index: int, events: list[Event]) -> FormerLogprobs | None:
        if self.asked.logprobs is None:
            return None
        tokens = [token for event in events for token in event.get("logprobs") or []]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token["token"])
        return FormerLogprobs(
            [token["token"] for token in tokens],
            [token["logprob"] for token in tokens],
            [{other["token"]: other["logprob"] for other in token["top_logprobs"]} for token in tokens],
            offsets,
        )

    def _usage(self) -> Usage:
        """Each prompt counts once, whatever n is."""
        each = self.asked.n or 1
        counts = [
            usage(self._done[first], [self._done[first + more] for more in range(1, each)])
            for first in range(0, len(self._done), each)
        ]
        total = counts[0]
        for count in counts[1:]:
            total.prompt_tokens += count.prompt_tokens
            total.completion_tokens += count.completion_tokens
            total.total_tokens += count.total_tokens
            total.prompt_tokens_details.cached_tokens += count.prompt_tokens_details.cached_tokens
        return total
