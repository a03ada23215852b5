"""Anthropic's API: its routes and their handlers."""

import asyncio
from functools import partial
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Match, Route
from starlette.types import Scope

from runner.api.anthropic.errors import VERSION, AnthropicResponses
from runner.api.anthropic.models import list_models, page_of
from runner.api.anthropic.requests import CountRequest, Messages, MessagesRequest, Prompt
from runner.api.anthropic.schemas import Failure, Message, Model, Models, StreamEvent, TokenCount
from runner.api.anthropic.stream import MessageAnswer
from runner.api.lease import DeferredJson, ask, leased
from runner.errors import ModelNotFound
from runner.gateway.app import Gateway
from runner.gateway.default_model import read_named_body
from runner.gateway.responses import Stream
from runner.http.access import header
from runner.http.bodies import PICTURES_LIMIT, JsonResponse
from runner.http.middleware import request_context
from runner.http.operation import SSE, operation
from runner.protocol.text import RenderedPrompt, parse_body
from runner.sources import ModelMode

MEDIA = f"{SSE}; charset=utf-8"

described = partial(operation, tag="Anthropic", failure=Failure)
asking = partial(described, stream=SSE, asks=True)

# It wraps the whole gateway, but affects only Anthropic's routes and clients.
middleware = (AnthropicResponses,)


class VersionedRoute(Route):
    """A route whose path another API has too: for requests with Anthropic's header."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        if scope["type"] == "http" and not header(scope, VERSION):
            return Match.NONE, {}
        return super().matches(scope)


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = Anthropic(gateway)
    return [
        Route("/v1/messages", api.messages, methods=["POST"]),
        Route("/v1/messages/count_tokens", api.count_tokens, methods=["POST"]),
        VersionedRoute("/v1/models", api.models),
        VersionedRoute("/v1/models/{name:path}", api.model),
    ]


class Anthropic:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @asking("Create a message", body=MessagesRequest, answer=Message, pieces=list(StreamEvent.__args__))
    async def messages(self, request: Request) -> Any:
        messages = Messages(await read_named_body(request, self._gateway, PICTURES_LIMIT))
        answer = MessageAnswer(self._gateway, messages, request_context(request.scope).id)
        if messages.request.stream:
            return Stream(answer.stream(), MEDIA, answer.last)
        return DeferredJson(answer.whole)

    @asking("Count the tokens of a message's prompt", body=CountRequest, answer=TokenCount)
    async def count_tokens(self, request: Request) -> Any:
        prompt = Prompt(
            parse_body(CountRequest, await read_named_body(request, self._gateway, PICTURES_LIMIT))
        )
        return DeferredJson(lambda: self._count(prompt, request_context(request.scope).id))

    async def _count(self, prompt: Prompt, id: str) -> TokenCount:
        text = prompt.engine_request()
        model = prompt.request.model
        async with leased(self._gateway, model, ModelMode.TEXT, prompt.keep_alive, id, text) as lease:
            rendered = await ask(lease, "/apply-template", text, RenderedPrompt)
        return TokenCount(rendered.tokens, prompt.warnings or UNSET)

    @described("List models that can be run", answer=Models)
    async def models(self, request: Request) -> Response:
        return JsonResponse(page_of(await self._listed(), request.query_params))

    @described("Show a model", answer=Model)
    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for model in await self._listed():
            if model.id == name:
                return JsonResponse(model)
        raise ModelNotFound(f"no model {name[:200]!r} on this machine; GET /v1/models lists those that are")

    async def _listed(self) -> list[Model]:
        return await asyncio.to_thread(list_models, self._gateway.resolver.aliases)
