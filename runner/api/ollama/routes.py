"""Ollama's API: its routes and their handlers."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from importlib import metadata
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson
from runner.api.ollama.copy_delete import Changes, CopyRequest
from runner.api.ollama.create import CreateRequest, Creations, receive_blob
from runner.api.ollama.embeddings import EmbeddingsRequest, EmbedRequest, embed, embeddings
from runner.api.ollama.generate_stream import Answer
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.pull import Pulls
from runner.api.ollama.requests import (
    CHAT_RULES,
    GENERATE_RULES,
    Chat,
    ChatRequest,
    Generate,
    GenerateRequest,
)
from runner.api.ollama.schemas import (
    AllLoaded,
    Arriving,
    Chatted,
    Embedded,
    Embedding,
    Generated,
    Shown,
    Tags,
    Version,
)
from runner.errors import BadRequest, DiptychError, KeyNeeded
from runner.gateway.app import Gateway
from runner.gateway.responses import Stream
from runner.http import rules
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.middleware import request_context
from runner.http.operation import NDJSON, operation
from runner.protocol.text import encode, parse_body

# The version of the API that is spoken here: clients compare it with what they need, and some read its numbers one by
# one. With 0.14.3 came pictures; VS Code asks for 0.6.4, Codex for 0.13.4. Later ones have nothing that clients need.
VERSION = "0.14.3"
# Some clients compare this text exactly to detect a server.
RUNNING = "Ollama is running"

described = partial(operation, tag="Ollama")


NAMED = rules.either(*(rules.has(name, {"type": "string", "minLength": 1}) for name in ("model", "name")))
HUB = "^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*(@[A-Za-z0-9._-]+)?$"
PULLED = rules.either(
    rules.has("model", {"type": "string", "pattern": HUB}),
    rules.has("name", {"type": "string", "pattern": HUB}) | {"not": rules.has("model", {"type": "string"})},
)


class Named(Struct, frozen=True):
    model: Annotated[str, Meta(min_length=1)] | None = None
    name: Annotated[str, Meta(min_length=1)] | None = None  # sent by older clients


class PullRequest(Struct, frozen=True):
    """`insecure`, which some clients always send, has no effect."""

    stream: bool | None = None


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = Ollama(gateway)
    return [
        Route("/", api.running),
        Route("/api/version", api.version),
        Route("/api/tags", api.tags),
        Route("/api/ps", api.ps),
        Route("/api/show", api.show, methods=["POST"]),
        Route("/api/generate", api.generate, methods=["POST"]),
        Route("/api/chat", api.chat, methods=["POST"]),
        Route("/api/embed", api.embed, methods=["POST"]),
        Route("/api/embeddings", api.embeddings, methods=["POST"]),
        Route("/api/pull", api.pull, methods=["POST"]),
        Route("/api/delete", api.delete, methods=["DELETE"]),
        Route("/api/copy", api.copy, methods=["POST"]),
        Route("/api/create", api.create, methods=["POST"]),
        Route("/api/blobs/{digest}", receive_blob, methods=["HEAD", "POST"]),
        Route("/api/me", api.me, methods=["POST"]),
        Route("/api/push", api.push, methods=["POST"]),
    ]


class Ollama:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._catalog = ModelCatalog(gateway)
        self._pulls = Pulls(gateway, self._catalog)
        self._changes = Changes(gateway, self._catalog)
        self._creations = Creations(gateway, self._catalog)

    @described(
        "Report that Ollama's API is available; show the page to browsers", plain=("text/plain", "text/html")
    )
    async def running(self, request: Request) -> Response:
        return PlainTextResponse(RUNNING)

    @described("Show the versions of the API and of Diptych", answer=Version)
    async def version(self, request: Request) -> Response:
        return JsonResponse({"version": VERSION, "diptych": metadata.version("diptych")})

    @described("List models that can be run", answer=Tags)
    async def tags(self, request: Request) -> Response:
        return JsonResponse(await self._catalog.tags())

    @described("List loaded models", answer=AllLoaded)
    async def ps(self, request: Request) -> Response:
        return JsonResponse(await self._catalog.loaded())

    @described("Show a model", body=Named, rules=(NAMED,), answer=Shown, asks=True)
    async def show(self, request: Request) -> Response:
        return JsonResponse(await self._catalog.show(model_name(await read_body(request))))

    @described(
        "Continue a text, or draw a picture",
        body=GenerateRequest,
        rules=GENERATE_RULES,
        answer=Generated,
        pieces=Generated,
        asks=True,
    )
    async def generate(self, request: Request) -> Any:
        return self._answer(request, Generate(await read_body(request, PICTURES_LIMIT)))

    @described(
        "Continue a chat",
        body=ChatRequest,
        rules=CHAT_RULES,
        answer=Chatted,
        pieces=Chatted,
        asks=True,
    )
    async def chat(self, request: Request) -> Any:
        return self._answer(request, Chat(await read_body(request, PICTURES_LIMIT)))

    def _answer(self, request: Request, parsed: Generate | Chat) -> Any:
        answer = Answer(self._gateway, self._catalog, parsed, request_context(request.scope).id)
        if parsed.fields.stream is False or parsed.empty:
            return DeferredJson(answer.whole)
        return Stream(answer.stream(), NDJSON, _last)

    @described(
        "Download a model",
        body=(Named, PullRequest),
        rules=(PULLED,),
        answer=Arriving,
        pieces=Arriving,
        asks=True,
    )
    async def pull(self, request: Request) -> Any:
        body = await read_body(request)
        name, stream = model_name(body), parse_body(PullRequest, body).stream
        if stream is False:
            return DeferredJson(lambda: self._pulls.whole(name))
        return Stream(self._pulls.stream(name), NDJSON, _last)

    @described("Delete a model", body=Named, rules=(NAMED,), asks=True)
    async def delete(self, request: Request) -> Response:
        await self._changes.delete(model_name(await read_body(request)))
        return Response()

    @described("Copy a model to another name", body=CopyRequest, asks=True)
    async def copy(self, request: Request) -> Response:
        await self._changes.copy(await read_body(request))
        return Response()

    @described(
        "Create a model of another one, or of uploaded blobs",
        body=CreateRequest,
        answer=Arriving,
        pieces=Arriving,
        asks=True,
    )
    async def create(self, request: Request) -> Any:
        new, fields = await self._creations.read(await read_body(request))
        lines = self._creations.lines(new, fields)
        if fields.stream is False:
            return DeferredJson(lambda: _last_line(lines))
        return Stream(_encoded(lines), NDJSON, _last)

    @described("Show the account at ollama.com, of which there is none here")
    async def me(self, request: Request) -> Response:
        raise KeyNeeded("unauthorized: this server has no account at ollama.com")

    async def push(self, request: Request) -> Response:
        raise BadRequest("models cannot be published from here; `hf upload` uploads one to the hub")

    @described("Create embeddings", body=EmbedRequest, answer=Embedded, asks=True)
    async def embed(self, request: Request) -> Any:
        body, id = await read_body(request), request_context(request.scope).id
        return DeferredJson(lambda: embed(self._gateway, self._catalog, body, id))

    @described(
        "Create an embedding (older endpoint)",
        body=EmbeddingsRequest,
        answer=Embedding,
        asks=True,
    )
    async def embeddings(self, request: Request) -> Any:
        body, id = await read_body(request), request_context(request.scope).id
        return DeferredJson(lambda: embeddings(self._gateway, self._catalog, body, id))


def model_name(body: bytes) -> str:
    """The model named in a body."""
    named = parse_body(Named, body)
    if name := named.model or named.name:
        return name
    raise BadRequest("model is missing")


async def _encoded(lines: AsyncGenerator[dict[str, Any], None]) -> AsyncGenerator[bytes, None]:
    async with aclosing(lines):
        async for line in lines:
            yield encode(line) + b"\n"


async def _last_line(lines: AsyncGenerator[dict[str, Any], None]) -> dict[str, Any]:
    return [line async for line in lines][-1]


def _last(error: DiptychError) -> bytes:
    return encode({"error": error.message}) + b"\n"
