"""Ollama's /api/create and /api/blobs: models made of others, or of blobs that were uploaded."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response

from models.tokenizers.go_template import GoTemplateError, OllamaTemplate
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.options import HINTS, IGNORED, SAME, ResolvedOptions
from runner.errors import BadRequest, Busy, TooSlow
from runner.gateway.app import Gateway
from runner.http.limits import BODY_TOO_SLOW
from runner.library.blobs import CHUNK, BlobWriter, blob_path
from runner.library.creation import NewModel, create_model
from runner.library.facts import files_of
from runner.protocol.text import encode, parse_body
from runner.sources.base import shorten
from runner.sources.name import LATEST, ModelName, parse_ollama_name
from runner.sources.ollama_store import LICENSE, MESSAGES, SYSTEM, TEMPLATE

Name = Annotated[str, Meta(min_length=1)]
NO_TEMPLATE = (
    "the template is kept for Ollama; here, a model that brings a chat template of its own uses that"
)


class Said(Struct, frozen=True):
    role: str
    content: str


class CreateRequest(Struct, frozen=True, rename={"base": "from"}):
    model: Name | None = None
    name: Name | None = None  # sent by older clients
    base: Name | None = None
    files: dict[str, str] | None = None
    adapters: dict[str, str] | None = None
    template: str | None = None
    license: str | list[str] | None = None
    system: str | None = None
    parameters: dict[str, Any] | None = None
    messages: list[Said] | None = None
    quantize: str | None = None
    modelfile: str | None = None
    stream: bool | None = None


class Creations:
    def __init__(self, gateway: Gateway, catalog: ModelCatalog) -> None:
        self._gateway = gateway
        self._catalog = catalog

    async def read(self, body: bytes) -> tuple[NewModel, CreateRequest]:
        request = parse_body(CreateRequest, body)
        _check(request)
        texts = {
            SYSTEM: [request.system] if request.system else [],
            TEMPLATE: [request.template] if request.template else [],
            LICENSE: [request.license] if isinstance(request.license, str) else request.license or [],
            MESSAGES: [encode(request.messages).decode()] if request.messages else [],
        }
        base = None
        if request.base is not None:
            model = await self._catalog.find(request.base)
            if model.fault is not None:
                raise BadRequest(f"from: {shorten(request.base)} cannot be run: {model.fault}")
            base = await asyncio.to_thread(files_of, model)
        name = request.model or request.name or ""
        if name.removesuffix(LATEST) in self._gateway.resolver.aliases:
            raise BadRequest(f"model: {shorten(name)} is already an alias, which would take precedence")
        new = parse_ollama_name(name)
        if new is None:
            raise BadRequest(
                f"model: {shorten(name)} is not a name for the Ollama store; use name, name:tag or namespace/name:tag"
            )
        return NewModel(
            new, base, request.files or {}, request.adapters or {}, texts, request.parameters or {}
        ), request

    async def lines(self, new: NewModel, request: CreateRequest) -> AsyncGenerator[dict[str, Any], None]:
        await self._unload(new)
        steps = create_model(new)
        while (line := await asyncio.to_thread(next, steps, None)) is not None:
            if line["status"] == "success":
                self._gateway.resolver.forget()
                if request.template:
                    yield {"status": NO_TEMPLATE}
            yield line

    async def _unload(self, new: NewModel) -> None:
        """A former model of this name would otherwise go on serving."""
        argument = str(ModelName("ollama", str(new.name)))
        for loaded in self._gateway.pool.loaded:
            if loaded.model.argument == argument:
                if not loaded.idle:
                    raise Busy(f"{loaded.model.name} is in use; try again when its requests have finished", 5)
                await self._gateway.pool.stop(argument)


def _check(request: CreateRequest) -> None:
    if not (request.model or request.name):
        raise BadRequest("model is missing; name the model to create")
    if request.modelfile:
        raise BadRequest("modelfile: it is not supported; send from, system, parameters and messages")
    _check_template(request.template)
    if request.quantize:
        raise BadRequest(
            f"quantize: {shorten(request.quantize)} cannot be made here; `diptych quantize` writes a quantized folder"
        )
    if (request.base is None) is (not request.files):
        raise BadRequest("from: either it or files is needed, to say what the model is made of")
    names = (*SAME, *HINTS, *IGNORED)
    for name in request.parameters or {}:
        if name not in names:
            raise BadRequest(f"parameters.{name[:64]} is not supported; supported are {', '.join(SAME)}")
    try:
        ResolvedOptions(request.parameters)
    except BadRequest as error:
        raise BadRequest(error.message.replace("options.", "parameters.", 1)) from None


def _check_template(template: str | None) -> None:
    try:
        OllamaTemplate(template or "").check()
    except GoTemplateError as error:
        raise BadRequest(f"template: {error}") from None


async def receive_blob(request: Request) -> Response:
    """POST /api/blobs/{digest}: 201, or 200 if the blob is there already. HEAD: whether it is."""
    digest = request.path_params["digest"]
    exists = await asyncio.to_thread(blob_path(digest).is_file)
    if request.method == "HEAD":
        return Response(status_code=200 if exists else 404)
    declared = request.headers.get("content-length", "")
    with BlobWriter(int(declared) if declared.isdigit() else None) as writer:
        buffer = bytearray()
        async for chunk in request.stream():
            if request.scope.get(BODY_TOO_SLOW):
                raise TooSlow(
                    f"the blob arrives too slowly: {writer.size} bytes so far, and almost none recently"
                )
            buffer += chunk
            if len(buffer) >= CHUNK:
                await asyncio.to_thread(writer.write, bytes(buffer))
                buffer.clear()
        await asyncio.to_thread(writer.write, bytes(buffer))
        await asyncio.to_thread(writer.commit, digest)
    return Response(status_code=200 if exists else 201)
