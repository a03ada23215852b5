"""The text endpoints: bodies to jobs, events to answers."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from runner.engine.engine import Engine
from runner.engine.text.prompts import Prompts, unknown_options
from runner.errors import BadRequest
from runner.http.bodies import read_body
from runner.http.metrics import Metrics
from runner.http.middleware import request_context
from runner.protocol.text import (
    DetokenizeRequest,
    EmbeddingDone,
    EmbeddingRequest,
    TextChunk,
    TextDone,
    TextRequest,
    TextWhole,
    TokenizeRequest,
    encode,
    parse_body,
    parse_text_body,
)
from runner.server.streaming import JobResponse
from runner.threads import run_in_daemon_thread

T = TypeVar("T")

# Shorter texts are tokenized where they are: handing them to a thread costs more.
SMALL = 4096
MOST_EMBEDDINGS = 2048
# Chat templates that are rendered at a time.
TEMPLATES = 8


class TextService(Protocol):
    """What the endpoints need of a loaded language model."""

    prompts: Prompts


class TextApi:
    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="tokenize")
        self._templates = asyncio.Semaphore(TEMPLATES)

    async def completion(self, request: Request, service: TextService, raw: bytes) -> JobResponse:
        wanted, body = parse_text_body(raw)
        job_request = await self._prepare(
            wanted, len(raw), lambda: service.prompts.generate(wanted, unknown_options(body))
        )
        job = self._engine.submit(request_context(request.scope).id, job_request)
        return JobResponse(
            self._engine,
            job,
            collect=None if wanted.stream else _whole,
            on_first=self._metrics.first.observe,
            on_event=lambda event: self._count(request, event),
        )

    async def embedding(self, request: Request, service: TextService) -> JobResponse:
        raw = await read_body(request)
        asked = parse_body(EmbeddingRequest, raw)
        content = asked.content
        texts = [content] if isinstance(content, str) else content
        if not texts or len(texts) > MOST_EMBEDDINGS:
            raise BadRequest(f"content: {len(texts)} texts are not allowed; 1 to {MOST_EMBEDDINGS} are")
        wanted = await self._aside(
            len(raw), lambda: service.prompts.embed(texts, asked.truncate, asked.num_ctx)
        )
        job = self._engine.submit(request_context(request.scope).id, wanted)
        return JobResponse(
            self._engine, job, collect=lambda events: _vectors(events, isinstance(content, str))
        )

    async def tokenize(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        content = parse_body(TokenizeRequest, raw).content
        tokens = await self._aside(len(raw), lambda: service.prompts.tokenize(content))
        return _json({"tokens": tokens})

    async def tokenize_plain(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not UTF-8 text: {error}") from None
        return _json(await self._aside(len(raw), lambda: service.prompts.tokenize_with_start(text)))

    async def detokenize(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        tokens = parse_body(DetokenizeRequest, raw).tokens
        return _json({"content": await self._aside(len(raw), lambda: service.prompts.detokenize(tokens))})

    async def _prepare(self, wanted: TextRequest, weight: int, work: Callable[[], T]) -> T:
        """Schemas and chat templates are programs, and may take long however small they are. Who waits for a schema
        holds a place among those that are compiled (schema_trials.py), and none here."""
        if wanted.format:
            return await run_in_daemon_thread(work)
        if wanted.messages is None:
            return await self._aside(weight, work)
        async with self._templates:
            return await run_in_daemon_thread(work)

    async def _aside(self, weight: int, work: Callable[[], T]) -> T:
        """Do it here when it is small, else on a thread, so that the event loop goes on."""
        if weight < SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _count(self, request: Request, event: Struct) -> None:
        if isinstance(event, TextDone):
            self._metrics.count_done(event)
            request_context(request.scope).tokens = event.eval_count

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")


def _whole(events: list[Struct]) -> bytes:
    """A text's events as one object: its content, its tokens, and what the last event says."""
    chunks = [event for event in events if isinstance(event, TextChunk)]
    done = events[-1]
    assert isinstance(done, TextDone)
    spoken: list[TextChunk | TextDone] = [*chunks, done]
    logprobs = [found for chunk in chunks for found in chunk.logprobs or []]
    answer = {
        "content": "".join(part.content or "" for part in spoken),
        "thinking": "".join(part.thinking or "" for part in spoken) or UNSET,
        "tool_calls": [call for part in spoken for call in part.tool_calls or []] or UNSET,
        "tokens": [chunk.token for chunk in chunks],
        "logprobs": logprobs or UNSET,
    }
    return encode(TextWhole(**{**asdict(done), **answer}))


def _vectors(events: list[Struct], single: bool) -> bytes:
    done = events[-1]
    assert isinstance(done, EmbeddingDone)
    found = {"embedding": done.embeddings[0]} if single else {"embeddings": done.embeddings}
    return encode({**found, "prompt_eval_count": done.prompt_eval_count})
