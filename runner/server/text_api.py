"""The text endpoints: request bodies become jobs, and events become responses."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from runner.engine.engine import Engine
from runner.engine.text.prompts import Prompts, unknown_options
from runner.errors import BadRequest
from runner.http.bodies import JsonResponse, read_body
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
)
from runner.protocol.text_rules import parse_text_body
from runner.server.streaming import JobResponse
from runner.threads import run_in_daemon_thread

T = TypeVar("T")

# Bodies below this many bytes are tokenized on the event loop: a thread would cost more.
SMALL = 4096
MOST_EMBEDDINGS = 2048
# Chat templates rendered at the same time.
TEMPLATES = 8


class TextService(Protocol):
    """The part of a loaded language model that the endpoints use."""

    prompts: Prompts


class TextApi:
    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="tokenize")
        self._templates = asyncio.Semaphore(TEMPLATES)

    async def completion(self, request: Request, service: TextService, raw: bytes) -> JobResponse:
        text_request, body = parse_text_body(raw)
        work = await self._prepare(
            text_request, len(raw), lambda: service.prompts.generate(text_request, unknown_options(body))
        )
        job = self._engine.submit(request_context(request.scope).id, work, work.priority)
        return JobResponse(
            self._engine,
            job,
            collect=None if text_request.stream else _whole,
            on_first=self._metrics.first.observe,
            on_event=lambda event: self._count(request, event),
        )

    async def embedding(self, request: Request, service: TextService) -> JobResponse:
        raw = await read_body(request)
        embedding = parse_body(EmbeddingRequest, raw)
        content = embedding.content
        texts = [content] if isinstance(content, str) else content
        if not texts or len(texts) > MOST_EMBEDDINGS:
            raise BadRequest(f"content: {len(texts)} texts are not allowed; send 1 to {MOST_EMBEDDINGS}")
        work = await self._prepare_text(
            len(raw), lambda: service.prompts.embed(texts, embedding.truncate, embedding.num_ctx)
        )
        job = self._engine.submit(request_context(request.scope).id, work)
        return JobResponse(
            self._engine, job, collect=lambda events: _vectors(events, isinstance(content, str))
        )

    async def apply_template(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        text_request, _ = parse_text_body(raw)
        return JsonResponse(
            await self._prepare(text_request, len(raw), lambda: service.prompts.render(text_request))
        )

    async def tokenize(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        content = parse_body(TokenizeRequest, raw).content
        tokens = await self._prepare_text(len(raw), lambda: service.prompts.tokenize(content))
        return JsonResponse({"tokens": tokens})

    async def tokenize_plain(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        try:
            text = raw.decode()
        except UnicodeDecodeError as error:
            raise BadRequest(f"the body is not UTF-8 text: {error}") from None
        return JsonResponse(
            await self._prepare_text(len(raw), lambda: service.prompts.tokenize_with_start(text))
        )

    async def detokenize(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        tokens = parse_body(DetokenizeRequest, raw).tokens
        return JsonResponse(
            {"content": await self._prepare_text(len(raw), lambda: service.prompts.detokenize(tokens))}
        )

    async def _prepare(self, request: TextRequest, weight: int, work: Callable[[], T]) -> T:
        """Schemas and chat templates are programs, and even small ones may take long. Requests with a schema queue
        where schemas are compiled (schema_trials.py), not here."""
        if request.format:
            return await run_in_daemon_thread(work)
        if request.messages is None:
            return await self._prepare_text(weight, work)
        async with self._templates:
            return await run_in_daemon_thread(work)

    async def _prepare_text(self, weight: int, work: Callable[[], T]) -> T:
        """Small work runs here, larger work on a thread, so that the event loop keeps going."""
        if weight < SMALL:
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _count(self, request: Request, event: Struct) -> None:
        if isinstance(event, TextDone):
            self._metrics.count_done(event)
            request_context(request.scope).tokens = event.eval_count

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _whole(events: list[Struct]) -> bytes:
    """A text's events as one object: content, tokens, and the fields of the last event."""
    chunks = [event for event in events if isinstance(event, TextChunk)]
    done = events[-1]
    assert isinstance(done, TextDone)
    parts: list[TextChunk | TextDone] = [*chunks, done]
    logprobs = [token for chunk in chunks for token in chunk.logprobs or []]
    fields = {
        "content": "".join(part.content or "" for part in parts),
        "thinking": "".join(part.thinking or "" for part in parts) or UNSET,
        "tool_calls": [call for part in parts for call in part.tool_calls or []] or UNSET,
        "tokens": [chunk.token for chunk in chunks],
        "logprobs": logprobs or UNSET,
    }
    return encode(TextWhole(**{**asdict(done), **fields}))


def _vectors(events: list[Struct], single: bool) -> bytes:
    done = events[-1]
    assert isinstance(done, EmbeddingDone)
    vectors = {"embedding": done.embeddings[0]} if single else {"embeddings": done.embeddings}
    return encode({**vectors, "prompt_eval_count": done.prompt_eval_count})
