"""/v1/completions: a prompt's continuation, without a chat template."""

import time
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from typing import Annotated

from msgspec import UNSET, Meta
from msgspec.structs import replace

from runner.api.lease import ask, leased, side_by_side, sse
from runner.api.openai.chat_stream import DONE
from runner.api.openai.completion_prompts import Prompt, check_lengths, prompts, texts
from runner.api.openai.sampling import (
    MOST_CHOICES,
    STREAM_RULE,
    Sampling,
    check_length,
    check_speculate,
    check_stream_options,
    options,
    usage,
)
from runner.api.openai.schemas import Completion, LegacyLogprobs, PromptLogprob, Stop, TextChoice, Usage
from runner.api.openai.structured import form_of
from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.proxy import keep_alive_seconds
from runner.http import rules
from runner.protocol.events import TextEvent
from runner.protocol.text import Infill, ScoreDone, ScoreRequest, TextChunk, TextDone, TextRequest, parse_body
from runner.sources import ModelMode

DEFAULT_LENGTH = 16  # OpenAI's

RULES = (
    STREAM_RULE,
    rules.either(
        {"properties": {"best_of": {"type": "null"}}},
        {
            "properties": {
                "stream": {"enum": [None, False]},
                "best_of": {"const": 1},
                "n": {"enum": [None, 1]},
            }
        },
        {"properties": {"stream": {"enum": [None, False]}, "best_of": {"minimum": 2}}},
    ),
)


class CompletionRequest(Sampling, frozen=True, kw_only=True):
    prompt: Prompt
    echo: bool | None = None
    suffix: str | None = None
    best_of: Annotated[int, Meta(ge=1, le=MOST_CHOICES)] | None = None
    logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None
    prompt_logprobs: Annotated[int, Meta(ge=0, le=20)] | None = None  # vLLM's


class CompletionAnswer:
    def __init__(self, gateway: Gateway, body: bytes, id: str) -> None:
        self._gateway = gateway
        self.request = request = parse_body(CompletionRequest, body)
        self._id = id
        self._prompts = prompts(request.prompt)
        self._length = DEFAULT_LENGTH if request.max_tokens is None else request.max_tokens
        self._each = request.best_of or request.n or 1  # texts that are written for a prompt
        self._form = form_of(request)
        self._check()
        self._keep_alive = keep_alive_seconds(request.keep_alive)
        self._texts: list[str] = []  # of the prompts, if they are part of the answer
        self._scores: list[ScoreDone] = []  # of the prompts, if their log probabilities are
        self._offsets: list[int] = []  # the length of each choice's text so far, for its log probabilities
        self._done: dict[int, TextDone] = {}
        self._head = (f"cmpl-{uuid.uuid4().hex}", int(time.time()), request.model)

    def _check(self) -> None:
        request, count = self.request, self.request.n or 1
        check_stream_options(request)
        check_speculate(request)
        for index, prompt in enumerate(self._prompts):
            if not prompt and not request.suffix:
                name = f"prompt[{index}]" if len(self._prompts) > 1 else "prompt"
                raise BadRequest(f"{name} is empty; some text is needed")
        if request.suffix and self._scored:
            raise BadRequest(
                "suffix: it cannot be combined with log probabilities of the prompt, which is not read alone"
            )
        if self._each < count:
            raise BadRequest(
                f"best_of: {self._each} is not allowed; n is {count}, and the best cannot be more than all"
            )
        if self._each > count and request.stream:
            raise BadRequest(
                "best_of: it cannot be combined with stream; the best is known once all are complete"
            )
        if not self._scored:
            check_length(request.max_tokens, "max_tokens")
        if len(self._prompts) * self._each > MOST_CHOICES:
            raise BadRequest(
                f"n: {len(self._prompts)} prompts times {self._each} are more than {MOST_CHOICES} choices"
            )

    @property
    def _echoed_logprobs(self) -> bool:
        return bool(self.request.echo) and self.request.logprobs is not None

    @property
    def _scored(self) -> bool:
        """Whether log probabilities of the prompts are needed."""
        return self._echoed_logprobs or self.request.prompt_logprobs is not None

    def _engine_requests(self) -> list[TextRequest]:
        request = self.request
        logprobs = request.logprobs is not None or self._each > (request.n or 1)
        return [
            TextRequest(
                prompt=prompt,
                options=options(request, self._length, index),
                logprobs=logprobs,
                top_logprobs=request.logprobs or 0,
                infill=Infill(request.suffix) if request.suffix else None,
                **self._form,
            )
            for prompt in self._prompts
            for index in range(self._each)
        ]

    async def _events(self) -> AsyncGenerator[tuple[int, TextEvent], None]:
        async with leased(
            self._gateway, self.request.model, ModelMode.TEXT, self._keep_alive, self._id, writes=True
        ) as lease:
            await self._read_prompts(lease)
            requests = self._engine_requests()
            self._offsets = [0] * len(requests)
            if self._length == 0:
                for index in range(len(requests)):
                    read = len(self._scores[index // self._each].tokens)
                    self._done[index] = TextDone(1, "length", read, 0, 0, 0, 0)
                    yield index, self._done[index]
                return
            async with aclosing(side_by_side(lease, requests, self._id)) as events:
                async for index, event in events:
                    if isinstance(event, TextDone):
                        self._done[index] = event
                    yield index, event

    async def _read_prompts(self, lease: Lease) -> None:
        if self.request.stream and len(self._prompts) > 1:
            await check_lengths(lease, self._prompts)
        if self.request.echo:
            self._texts = await texts(lease, self._prompts)
        if self._scored:
            top = max(self.request.logprobs or 0, self.request.prompt_logprobs or 0)
            bodies = [ScoreRequest(prompt, top) for prompt in self._prompts]
            self._scores = [await ask(lease, "/score", body, ScoreDone) for body in bodies]

    async def stream(self) -> AsyncGenerator[bytes, None]:
        begun: set[int] = set()
        async with aclosing(self._events()) as events:
            async for index, event in events:
                first = index not in begun
                begun.add(index)
                choice = self._choice(index, [event], first)
                if choice.text or choice.finish_reason or (choice.logprobs and choice.logprobs.tokens):
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
        chosen = [
            at
            for start in range(0, len(events), self._each)
            for at in best(events, range(start, start + self._each), self.request.n or 1)
        ]
        choices = [
            replace(self._choice(at, events[at], True), index=index) for index, at in enumerate(chosen)
        ]
        return Completion(*self._head, choices=choices, usage=self._usage())

    def _choice(self, index: int, events: list[TextEvent], first: bool) -> TextChoice:
        """`first`: the events are the first of this choice, so the prompt comes before them."""
        text = "".join(event.content or "" for event in events)
        if first and self.request.echo:
            text = self._texts[index // self._each] + text
        last = events[-1]
        finish: Stop | None = last.stop_reason if isinstance(last, TextDone) else None
        logprobs = self._logprobs(index, events, first)
        if first and self.request.prompt_logprobs is not None:
            scored = self._scores[index // self._each]
            return TextChoice(
                index, text, logprobs, finish, prompt_logprobs(scored, self.request.prompt_logprobs)
            )
        return TextChoice(index, text, logprobs, finish)

    def _logprobs(self, index: int, events: list[TextEvent], first: bool) -> LegacyLogprobs | None:
        most = self.request.logprobs
        if most is None:
            return None
        legacy = LegacyLogprobs([], [], [], [])
        if first and self._echoed_logprobs:
            scored = self._scores[index // self._each]
            legacy.add(scored.first, None, None, self._offset(index, scored.first))
            for token in scored.logprobs:
                legacy.add_token(token, most, self._offset(index, token.token))
        for event in events:
            for token in event.logprobs or [] if isinstance(event, TextChunk) else []:
                legacy.add_token(token, most, self._offset(index, token.token))
        return legacy

    def _offset(self, index: int, text: str) -> int:
        """Where a choice's next token begins in its text."""
        offset = self._offsets[index]
        self._offsets[index] += len(text)
        return offset

    def _usage(self) -> Usage:
        """Each prompt counts once, whatever n is."""
        done = [self._done[index] for index in range(len(self._done))]
        first, *others = [
            usage(done[start : start + self._each]) for start in range(0, len(done), self._each)
        ]
        for other in others:
            first.prompt_tokens += other.prompt_tokens
            first.completion_tokens += other.completion_tokens
            first.total_tokens += other.total_tokens
            first.completion_tokens_details.add(other.completion_tokens_details)
            first.prompt_tokens_details.cached_tokens += other.prompt_tokens_details.cached_tokens
        return first


def best(events: Mapping[int, Sequence[TextEvent]], texts: Sequence[int], count: int) -> Sequence[int]:
    """Those of some texts with the highest log probability for each token, the best first."""
    if count == len(texts):
        return texts

    def likelihood(text: int) -> float:
        chunks = [event for event in events[text] if isinstance(event, TextChunk)]
        values = [token.logprob for chunk in chunks for token in chunk.logprobs or []]
        return sum(values) / len(values) if values else 0.0

    return sorted(texts, key=likelihood, reverse=True)[:count]


def prompt_logprobs(scored: ScoreDone, most: int) -> list[dict[str, PromptLogprob] | None]:
    """In vLLM's shape: of each token but the first the likeliest ones and itself, by their ids."""
    listed: list[dict[str, PromptLogprob] | None] = [None]
    for token in scored.logprobs:
        ranks = {other.id: rank for rank, other in enumerate(token.top_logprobs, start=1)}
        tokens = {
            str(other.id): PromptLogprob(other.logprob, ranks[other.id], other.token)
            for other in token.top_logprobs[:most]
        }
        own = PromptLogprob(token.logprob, ranks.get(token.id), token.token)
        listed.append({str(token.id): own, **tokens})
    return listed
