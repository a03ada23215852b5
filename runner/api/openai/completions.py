"""/v1/completions: a prompt's continuation, without a chat template."""

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated

from msgspec import UNSET, Meta

from runner.api.lease import ask, leased, side_by_side, sse
from runner.api.openai.chat_stream import DONE
from runner.api.openai.sampling import (
    MOST_CHOICES,
    STREAM_RULE,
    Sampling,
    check_speculate,
    check_stream_options,
    options,
    usage,
)
from runner.api.openai.schemas import Completion, LegacyLogprobs, Stop, TextChoice, Usage
from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.proxy import keep_alive_seconds
from runner.gateway.schemas import Content, Tokens
from runner.http import rules
from runner.protocol.events import TextEvent
from runner.protocol.text import (
    DetokenizeRequest,
    TextChunk,
    TextDone,
    TextRequest,
    TokenizeRequest,
    parse_body,
)
from runner.sources import ModelMode

DEFAULT_LENGTH = 16  # OpenAI's
Input = str | list[str | int | list[int]]


# All of one kind, and not empty.
INPUT_RULE = rules.either(
    {"type": "string"},
    *({"type": "array", "minItems": 1, "items": {"type": kind}} for kind in ("string", "integer")),
    {"type": "array", "minItems": 1, "items": {"type": "array"}},
)
Prompt = Annotated[Input, Meta(extra_json_schema={"allOf": [INPUT_RULE]})]
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
    prompt: Prompt
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
        raise BadRequest(f"{name}: it must be text, a list of token ids, or a list of either, and not empty")
    return texts


async def texts(lease: Lease, prompts: list[str | list[int]]) -> list[str]:
    return [
        prompt
        if isinstance(prompt, str)
        else (await ask(lease, "/detokenize", DetokenizeRequest(prompt), Content)).content
        for prompt in prompts
    ]


async def check_lengths(lease: Lease, prompts: list[str]) -> None:
    """Reject a prompt whose length the runner would reject, possibly after the stream of another prompt has begun."""
    context = lease.server.context_length
    for index, prompt in enumerate(prompts):
        count = len((await ask(lease, "/tokenize", TokenizeRequest(prompt), Tokens)).tokens)
        if count >= context:
            raise BadRequest(
                f"prompt[{index}]: its {count} tokens do not fit into the context of {context} tokens with room for "
                "an answer"
            )


class CompletionAnswer:
    def __init__(self, gateway: Gateway, body: bytes, id: str) -> None:
        self._gateway = gateway
        self.request = parse_body(CompletionRequest, body)
        self._id = id
        self._inputs = inputs(self.request.prompt, "prompt")
        self._check()
        self._keep_alive = keep_alive_seconds(self.request.keep_alive)
        self._prompts: list[str] = []
        self._offsets: list[int] = []  # the length of each choice's text so far, for its log probabilities
        self._done: dict[int, TextDone] = {}
        self._head = (f"cmpl-{uuid.uuid4().hex}", int(time.time()), self.request.model)

    def _check(self) -> None:
        request, count = self.request, self.request.n or 1
        check_stream_options(request)
        check_speculate(request)
        for index, prompt in enumerate(self._inputs):
            if not prompt:
                name = f"prompt[{index}]" if len(self._inputs) > 1 else "prompt"
                raise BadRequest(f"{name} is empty; some text is needed")
        if request.suffix:
            raise BadRequest("suffix: filling in the middle is not supported; prompt alone is continued")
        if request.best_of is not None and request.best_of != count:
            raise BadRequest("best_of: choosing the best of several answers is not supported; use n")
        if request.echo and request.logprobs is not None:
            raise BadRequest(
                "echo: it cannot be combined with logprobs, which are not computed for the prompt"
            )
        if len(self._inputs) * count > MOST_CHOICES:
            raise BadRequest(
                f"n: {len(self._inputs)} prompts times {count} are more than {MOST_CHOICES} choices"
            )

    def _engine_requests(self) -> list[TextRequest]:
        request = self.request
        length = DEFAULT_LENGTH if request.max_tokens is None else request.max_tokens
        return [
            TextRequest(
                prompt=prompt,
                options=options(request, length, index),
                logprobs=request.logprobs is not None,
                top_logprobs=request.logprobs or 0,
            )
            for prompt in self._prompts
            for index in range(request.n or 1)
        ]

    async def _events(self) -> AsyncGenerator[tuple[int, TextEvent], None]:
        async with leased(
            self._gateway, self.request.model, ModelMode.TEXT, self._keep_alive, self._id
        ) as lease:
            self._prompts = await texts(lease, self._inputs)
            if self.request.stream and len(self._prompts) > 1:
                await check_lengths(lease, self._prompts)
            requests = self._engine_requests()
            self._offsets = [0] * len(requests)
            async with aclosing(side_by_side(lease, requests, self._id)) as events:
                async for index, event in events:
                    if isinstance(event, TextDone):
                        self._done[index] = event
                    yield index, event

    def _prompt(self, index: int) -> str:
        return self._prompts[index // (self.request.n or 1)]

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        async with aclosing(self._events()) as events:
            async for index, event in events:
                text = event.content or ""
                if index not in begun and self.request.echo:
                    text = self._prompt(index) + text
                begun.add(index)
                if text or isinstance(event, TextDone) or event.logprobs:
                    choice = self._choice(index, text, [event])
                    usage = None if self.request.usage_streamed else UNSET
                    yield sse(Completion(*self._head, choices=[choice], usage=usage))
        if self.request.usage_streamed:
            yield sse(Completion(*self._head, choices=[], usage=self._usage()))
        yield DONE

    async def whole(self) -> Completion:
        events: dict[int, list[TextEvent]] = {}
        async with aclosing(self._events()) as stream:
            async for index, event in stream:
                events.setdefault(index, []).append(event)
        choices = []
        for index in sorted(events):
            text = "".join(event.content or "" for event in events[index])
            text = self._prompt(index) + text if self.request.echo else text
            choices.append(self._choice(index, text, events[index]))
        return Completion(*self._head, choices=choices, usage=self._usage())

    def _choice(self, index: int, text: str, events: list[TextEvent]) -> TextChoice:
        last = events[-1]
        finish: Stop | None = last.stop_reason if isinstance(last, TextDone) else None
        return TextChoice(index, text, self._logprobs(index, events), finish)

    def _logprobs(self, index: int, events: list[TextEvent]) -> LegacyLogprobs | None:
        if self.request.logprobs is None:
            return None
        chunks = [event for event in events if isinstance(event, TextChunk)]
        tokens = [token for chunk in chunks for token in chunk.logprobs or []]
        offsets = []
        for token in tokens:
            offsets.append(self._offsets[index])
            self._offsets[index] += len(token.token)
        return LegacyLogprobs(
            [token.token for token in tokens],
            [token.logprob for token in tokens],
            [{other.token: other.logprob for other in token.top_logprobs} for token in tokens],
            offsets,
        )

    def _usage(self) -> Usage:
        """Each prompt counts once, whatever n is."""
        each = self.request.n or 1
        done = [self._done[index] for index in range(len(self._done))]
        first, *others = [usage(done[start : start + each]) for start in range(0, len(done), each)]
        for other in others:
            first.prompt_tokens += other.prompt_tokens
            first.completion_tokens += other.completion_tokens
            first.total_tokens += other.total_tokens
            first.completion_tokens_details.add(other.completion_tokens_details)
            first.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens
        return first
