"""OpenAI's API: its routes and their handlers."""

import asyncio
from functools import partial
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.api.forms import is_form, read_form
from runner.api.images import FOLDER, Pictures
from runner.api.lease import DeferredJson, sse
from runner.api.openai.chat import RULES as CHAT_RULES
from runner.api.openai.chat import UNSUPPORTED as CHAT_LACKS
from runner.api.openai.chat import Chat, ChatRequest
from runner.api.openai.chat_stream import ChatAnswer
from runner.api.openai.completions import RULES as COMPLETION_RULES
from runner.api.openai.completions import CompletionAnswer, CompletionRequest
from runner.api.openai.embeddings import EmbeddingsRequest, embeddings
from runner.api.openai.errors import OpenAIErrors, openai_error
from runner.api.openai.image_edits import RULE as EDIT_RULE
from runner.api.openai.image_edits import (
    VARIATION,
    EditForm,
    EditRequest,
    VariationForm,
    VariationRequest,
    edit_of_form,
    edit_of_json,
    variation_of_form,
)
from runner.api.openai.images import NOT_GENERATED, ImagesCall, ImagesRequest
from runner.api.openai.images import RULES as DRAWING_RULES
from runner.api.openai.images import UNSUPPORTED as EDITS_LACK
from runner.api.openai.images_stream import DrawingAnswer
from runner.api.openai.models import ModelsQuery, list_models
from runner.api.openai.schemas import (
    ChatChunk,
    ChatCompletion,
    Completion,
    Embeddings,
    Failure,
    Model,
    Models,
    PictureEvent,
)
from runner.api.openai.schemas import Pictures as Drawn
from runner.errors import DiptychError, ModelNotFound
from runner.gateway.app import Gateway
from runner.gateway.default_model import read_named_body
from runner.gateway.resolver import LATEST
from runner.gateway.responses import Stream
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.middleware import request_context
from runner.http.operation import SSE, operation
from runner.protocol.text import parse, read_json

MEDIA = f"{SSE}; charset=utf-8"
TAG = "OpenAI"
DONE = "[DONE]"  # the data of the last event of a chat's or a completion's stream

described = partial(operation, tag=TAG, failure=Failure)
asking = partial(described, stream=SSE, asks=True)

# It wraps the whole gateway, but affects only the paths under /v1.
middleware = (OpenAIErrors,)


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = OpenAI(gateway)
    return [
        Route("/v1/models", api.models),
        Route("/v1/models/{name:path}", api.model),
        *_with_and_without_version("/chat/completions", api.chat),
        *_with_and_without_version("/completions", api.completions),
        *_with_and_without_version("/embeddings", api.embeddings),
        Route("/v1/images/generations", api.generations, methods=["POST"]),
        Route("/v1/images/edits", api.edits, methods=["POST"]),
        Route("/v1/images/variations", api.variations, methods=["POST"]),
        Route(FOLDER + "{name}", api.picture),
    ]


def _with_and_without_version(path: str, handler: Any) -> list[BaseRoute]:
    """Clients of llama-server and mlx-lm's server may leave out /v1."""
    return [Route(f"/v1{path}", handler, methods=["POST"]), Route(path, handler, methods=["POST"])]


class OpenAI:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._pictures = Pictures()

    @described("List models that can be run", query=ModelsQuery, answer=Models)
    async def models(self, request: Request) -> Response:
        query = parse(ModelsQuery, dict(request.query_params), strict=False)
        return JsonResponse(Models([model for model in await self._listed() if query.takes(model)]))

    @described("Show a model", answer=Model)
    async def model(self, request: Request) -> Response:
        name = request.path_params["name"]
        for model in await self._listed():
            if model.id in (name, name.removesuffix(LATEST)):
                return JsonResponse(model)
        raise ModelNotFound(f"no model {name[:200]!r} on this machine; GET /v1/models lists those that are")

    async def _listed(self) -> list[Model]:
        """The models that can be run, by every name that a client may use."""
        return await asyncio.to_thread(list_models, self._gateway.resolver.aliases)

    @asking(
        "Continue a chat",
        body=ChatRequest,
        rules=CHAT_RULES,
        refused=CHAT_LACKS,
        answer=ChatCompletion,
        pieces=ChatChunk,
        sentinel=DONE,
    )
    async def chat(self, request: Request) -> Any:
        chat = Chat.read(await read_named_body(request, self._gateway, PICTURES_LIMIT))
        answer = ChatAnswer(self._gateway, chat, request_context(request.scope).id)
        return Stream(answer.stream(), MEDIA, _last) if chat.request.stream else DeferredJson(answer.whole)

    @asking(
        "Continue a text",
        body=CompletionRequest,
        rules=COMPLETION_RULES,
        answer=Completion,
        pieces=Completion,
        sentinel=DONE,
    )
    async def completions(self, request: Request) -> Any:
        body = await read_named_body(request, self._gateway)
        answer = CompletionAnswer(self._gateway, body, request_context(request.scope).id)
        return Stream(answer.stream(), MEDIA, _last) if answer.request.stream else DeferredJson(answer.whole)

    @asking("Create embeddings", body=EmbeddingsRequest, answer=Embeddings)
    async def embeddings(self, request: Request) -> Any:
        body = await read_named_body(request, self._gateway)
        id = request_context(request.scope).id
        return DeferredJson(lambda: embeddings(self._gateway, body, id))

    @asking(
        "Draw pictures",
        body=ImagesRequest,
        rules=DRAWING_RULES,
        refused=NOT_GENERATED,
        answer=Drawn,
        pieces=PictureEvent,
    )
    async def generations(self, request: Request) -> Any:
        body = read_json(await read_body(request))
        return self._draw(request, ImagesCall(body, "image_generation", []))

    @asking(
        "Edit pictures",
        body=EditRequest,
        form=EditForm,
        rules=(*DRAWING_RULES, EDIT_RULE),
        refused=EDITS_LACK,
        answer=Drawn,
        pieces=PictureEvent,
    )
    async def edits(self, request: Request) -> Any:
        raw = await read_body(request, PICTURES_LIMIT)
        # Parsing and encoding megabytes would block the event loop.
        return self._draw(
            request, await asyncio.to_thread(_edit, request.headers.get("content-type", ""), raw)
        )

    @asking(
        "Draw variations of a picture",
        body=VariationRequest,
        form=VariationForm,
        rules=(*DRAWING_RULES, EDIT_RULE),
        refused=EDITS_LACK,
        answer=Drawn,
        pieces=PictureEvent,
    )
    async def variations(self, request: Request) -> Any:
        raw = await read_body(request, PICTURES_LIMIT)
        kind = request.headers.get("content-type", "")
        return self._draw(request, await asyncio.to_thread(_variation, kind, raw))

    def _draw(self, request: Request, drawing: ImagesCall) -> Any:
        base = str(request.base_url).rstrip("/")
        answer = DrawingAnswer(
            self._gateway, drawing, request_context(request.scope).id, self._pictures, base
        )
        return Stream(answer.stream(), MEDIA, _last) if drawing.body.stream else DeferredJson(answer.whole)

    @described("Get a picture that was drawn a few minutes ago", plain=("image/*",))
    async def picture(self, request: Request) -> Response:
        kept = self._pictures.find(request.path_params["name"])
        return Response(kept.data, media_type=kept.media_type)


def _edit(content_type: str, raw: bytes) -> ImagesCall:
    if is_form(content_type):
        return edit_of_form(read_form(content_type, raw))
    return edit_of_json(read_json(raw))


def _variation(content_type: str, raw: bytes) -> ImagesCall:
    if is_form(content_type):
        return variation_of_form(read_form(content_type, raw))
    return edit_of_json({"prompt": VARIATION, **read_json(raw)})


def _last(error: DiptychError) -> bytes:
    return sse(openai_error(error))
