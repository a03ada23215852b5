"""The text endpoints: request bodies become jobs, and events become responses."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from msgspec import UNSET, Struct
from msgspec.structs import asdict
from starlette.requests import Request
from starlette.responses import Response

from runner.engine.engine import Engine
from runner.engine.text.pictures import Looked, Picture
from runner.engine.text.prompts import Generate, Prompts, unknown_options
from runner.engine.text.tokens import chosen_prompt
from runner.errors import BadRequest, Busy
from runner.http.bodies import JsonResponse, read_body
from runner.http.metrics import Metrics
from runner.http.middleware import request_context
from runner.protocol.rerank import RerankRequest
from runner.protocol.text import (
    DetokenizeRequest,
    EmbeddingDone,
    EmbeddingRequest,
    ScoreRequest,
    TextChunk,
    TextDone,
    TextRequest,
    TextWhole,
    TokenizeRequest,
    encode,
    parse_body,
)
from runner.protocol.text_rules import held_to, parse_text_body
from runner.server.streaming import JobResponse, while_connected
from runner.threads import run_in_daemon_thread

if TYPE_CHECKING:
    from models.vision.interface import SeenPicture

T = TypeVar("T")

# Bodies below this many bytes are tokenized on the event loop: a thread would cost more.
SMALL = 4096
MOST_EMBEDDINGS = 2048
# Chat templates rendered at the same time.
TEMPLATES = 8
MIB = 1024**2
# Of pixels, in all requests that wait or are answered.
MOST_HELD = 1024 * MIB


class TextService(Protocol):
    """The part of a loaded language model that the endpoints use."""

    prompts: Prompts


class TextApi:
    def __init__(self, engine: Engine, metrics: Metrics) -> None:
        self._engine = engine
        self._metrics = metrics
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="tokenize")
        self._templates = asyncio.Semaphore(TEMPLATES)
        self._decoder = ThreadPoolExecutor(1, thread_name_prefix="decode")  # of pictures
        self._looking = 0  # bytes of pictures whose requests are not in the engine yet

    async def completion(self, request: Request, service: TextService, raw: bytes) -> JobResponse:
        text_request, body = parse_text_body(raw)
        async with self._looked(request, text_request, service.prompts) as looked:
            work = await self._prepare(
                text_request,
                len(raw),
                lambda: service.prompts.generate(text_request, unknown_options(body), looked),
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
            len(raw),
            lambda: service.prompts.embed(
                texts, embedding.truncate, embedding.num_ctx, chosen_prompt(embedding)
            ),
        )
        job = self._engine.submit(request_context(request.scope).id, work)
        return JobResponse(
            self._engine, job, collect=lambda events: _vectors(events, isinstance(content, str))
        )

    async def rerank(self, request: Request, service: TextService) -> JobResponse:
        raw = await read_body(request)
        rerank = parse_body(RerankRequest, raw)
        work = await self._prepare_text(len(raw), lambda: service.prompts.rerank(rerank))
        job = self._engine.submit(request_context(request.scope).id, work)
        return JobResponse(self._engine, job, collect=lambda events: encode(events[-1]))

    async def score(self, request: Request, service: TextService) -> JobResponse:
        raw = await read_body(request)
        body = parse_body(ScoreRequest, raw)
        work = await self._prepare_text(
            len(raw), lambda: service.prompts.score(body.prompt, body.top_logprobs)
        )
        job = self._engine.submit(request_context(request.scope).id, work)
        return JobResponse(self._engine, job, collect=lambda events: encode(events[-1]))

    async def apply_template(self, request: Request, service: TextService) -> Response:
        raw = await read_body(request)
        text_request, _ = parse_text_body(raw)
        async with self._looked(request, text_request, service.prompts) as looked:
            rendered = await self._prepare(
                text_request, len(raw), lambda: service.prompts.render(text_request, looked)
            )
        return JsonResponse(rendered)

    @asynccontextmanager
    async def _looked(
        self, request: Request, text_request: TextRequest, prompts: Prompts
    ) -> AsyncIterator[Looked]:
        """The pictures of a request, whose pixels are counted until it is in the engine."""
        looks = prompts.sight.looks(text_request)
        looked: dict[Picture, SeenPicture] = {}
        try:
            if looks:
                await while_connected(request, self._look(looks, looked))
            yield looked
        finally:
            self._looking -= sum(one.pixels.nbytes for one in looked.values())

    async def _look(
        self,
        looks: "Mapping[Picture, Callable[[], SeenPicture]]",
        looked: "dict[Picture, SeenPicture]",
    ) -> None:
        """Decode one picture at a time, in turn with those of other requests. When cancelled, at most one is still
        decoded."""
        for picture, look in looks.items():
            one = await asyncio.get_running_loop().run_in_executor(self._decoder, look)
            self._check_held(one.pixels.nbytes)
            looked[picture] = one
            self._looking += one.pixels.nbytes

    def _check_held(self, more: int) -> None:
        jobs = (job.request for job in self._engine.in_flight())
        held = self._looking + sum(work.bytes for work in jobs if isinstance(work, Generate))
        if held and held + more > MOST_HELD:
            raise Busy(
                f"messages: pictures of requests in flight take {held // MIB} MiB; {MOST_HELD // MIB} MiB are allowed "
                "together",
                retry_after=10,
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
        if held_to(request):
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
        for threads in (self._threads, self._decoder):
            threads.shutdown(wait=False, cancel_futures=True)


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
        "call_deltas": [delta for part in parts for delta in part.call_deltas or []] or UNSET,
        "tokens": [chunk.token for chunk in chunks],
        "logprobs": logprobs or UNSET,
    }
    return encode(TextWhole(**{**asdict(done), **fields}))


def _vectors(events: list[Struct], single: bool) -> bytes:
    done = events[-1]
    assert isinstance(done, EmbeddingDone)
    vectors = {"embedding": done.embeddings[0]} if single else {"embeddings": done.embeddings}
    return encode({**vectors, "prompt_eval_count": done.prompt_eval_count})
