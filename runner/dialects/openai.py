"""OpenAI's API: its paths, and what is at each."""

import asyncio
import difflib
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.bodies import read_body
from runner.dialects.asking import Whole, sse
from runner.dialects.openai_chat import Chat
from runner.dialects.openai_chat_answers import ChatAnswer
from runner.dialects.openai_completions import CompletionAnswer
from runner.dialects.openai_embeddings import embeddings
from runner.dialects.openai_errors import OpenAIErrors, UnknownPath, shaped
from runner.errors import DiptychError, ModelNotFound
from runner.gateway.answering import Stream
from runner.gateway.app import Gateway
from runner.library import Installed, installed
from runner.middleware import exchange
from runner.protocol import encode, read_json

SSE = "text/event-stream; charset=utf-8"
ANY = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]

# Around the whole gateway, though for the paths under /v1 alone.
middleware = (OpenAIErrors,)


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = OpenAI(gateway)
    known = [
        Route("/v1/models", api.models),
        Route("/v1/models/{name:path}", api.model),
        Route("/v1/chat/completions", api.chat, methods=["POST"]),
        Route("/v1/completions", api.completions, methods=["POST"]),
        Route("/v1/embeddings", api.embeddings, methods=["POST"]),
    ]
    return [*known, Route("/v1/{rest:path}", _Unknown(known).answer, methods=ANY)]


class OpenAI:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    async def models(self, request: Request) -> Response:
        return _json({"object": "list", "data": await self._listed()})

    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for model in await self._listed():
            if model["id"] == name:
                return _json(model)
        raise ModelNotFound(
            f"no model {name[:200]!r} on this machine; GET /v1/models lists those that there are"
        )

    async def _listed(self) -> list[dict[str, Any]]:
        """The models that can be run, by every name that a client may use."""
        library = await asyncio.to_thread(installed, self._gateway.names.aliases)
        usable = [model for model in library.models if model.fault is None]
        return [shown(model, name) for model in usable for name in names(model)]

    async def chat(self, request: Request) -> Any:
        chat = Chat(read_json(await read_body(request)))
        answer = ChatAnswer(self._gateway, chat, exchange(request.scope).id)
        return Stream(answer.stream(), SSE, _last) if chat.asked.stream else Whole(answer.whole)

    async def completions(self, request: Request) -> Any:
        body = read_json(await read_body(request))
        answer = CompletionAnswer(self._gateway, body, exchange(request.scope).id)
        return Stream(answer.stream(), SSE, _last) if answer.asked.stream else Whole(answer.whole)

    async def embeddings(self, request: Request) -> Any:
        body = read_json(await read_body(request))
        id = exchange(request.scope).id
        return Whole(lambda: embeddings(self._gateway, body, id))


def names(model: Installed) -> tuple[str, ...]:
    """What clients call it: a folder only by its aliases."""
    return model.aliases if model.source == "folder" else (model.name, *model.aliases)


def shown(model: Installed, name: str) -> dict[str, Any]:
    owner, slash, _ = model.name.partition("/")
    owned_by = owner if slash and model.source != "folder" else model.source
    return {"id": name, "object": "model", "created": int(model.modified), "owned_by": owned_by}


class _Unknown:
    """Paths under /v1 that are not there, and methods that a path does not take."""

    def __init__(self, known: list[Route]) -> None:
        self._methods = {route.path: sorted(route.methods or ()) for route in known}

    async def answer(self, request: Request) -> Response:
        path = request.url.path
        if path in self._methods:
            allowed = ", ".join(self._methods[path])
            raise UnknownPath(f"{path} does not take {request.method}; {allowed} it does", status=405)
        near = difflib.get_close_matches(path, self._methods, n=1, cutoff=0)
        raise UnknownPath(f"there is nothing at {path[:200]}; the nearest is {near[0]}")


def _last(error: DiptychError) -> bytes:
    return sse(shaped(error))


def _json(value: Any) -> Response:
    return Response(encode(value), media_type="application/json")
