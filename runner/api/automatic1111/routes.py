"""AUTOMATIC1111's API under /sdapi/v1: its routes and their handlers."""

import asyncio
import base64
import binascii
from functools import partial
from typing import Any

from msgspec import Struct, field
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.api.automatic1111.drawing import Drawn, Jobs, Progress
from runner.api.automatic1111.png_text import png_texts
from runner.api.automatic1111.requests import Img2Img, Txt2Img, engine_request, ignored
from runner.api.lease import DeferredJson, names
from runner.api.openai.image_edits import data_of
from runner.errors import BadRequest, ModelNotFound
from runner.gateway.app import Gateway
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.middleware import request_context
from runner.http.operation import operation
from runner.library import Installed, installed
from runner.library.adapters import installed_adapters
from runner.protocol.text import parse, parse_body, read_json
from runner.sources import ModelMode
from runner.sources.adapters import AdapterSource

TAG = "AUTOMATIC1111"
PREVIEWS = 3
described = partial(operation, tag=TAG)


class Checkpoint(Struct, frozen=True):
    title: str
    model_name: str
    filename: str
    hash: str | None = None
    sha256: str | None = None
    config: str | None = None


class Options(Struct, frozen=True):
    """`live_previews_enable`: pictures on the way are made for /sdapi/v1/progress."""

    sd_model_checkpoint: str | None = None
    live_previews_enable: bool | None = None


class OptionsChange(Options, frozen=True):
    """Those that are null or missing stay as they are; others than these have no effect."""


class Sampler(Struct, frozen=True):
    name: str
    aliases: list[str]
    options: dict[str, str]


class Scheduler(Struct, frozen=True):
    name: str
    label: str
    aliases: list[str] | None = None


class ListedLora(Struct, frozen=True):
    name: str
    alias: str
    path: str
    metadata: dict[str, str] = field(default_factory=dict)


class Upscaler(Struct, frozen=True):
    name: str
    scale: float
    model_name: str | None = None
    model_path: str | None = None
    model_url: str | None = None


class PngInfoRequest(Struct, frozen=True):
    image: str


class PngInfo(Struct, frozen=True):
    info: str
    items: dict[str, str]
    parameters: dict[str, str]


class Nothing(Struct, frozen=True):
    pass


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = Automatic1111(gateway)
    base = "/sdapi/v1"
    lists = (
        "sd-vae",
        "sd-modules",
        "latent-upscale-modes",
        "face-restorers",
        "prompt-styles",
        "hypernetworks",
    )
    return [
        Route(f"{base}/txt2img", api.txt2img, methods=["POST"]),
        Route(f"{base}/img2img", api.img2img, methods=["POST"]),
        Route(f"{base}/progress", api.progress),
        Route(f"{base}/interrupt", api.interrupt, methods=["POST"]),
        Route(f"{base}/skip", api.interrupt, methods=["POST"]),
        Route(f"{base}/options", api.options),
        Route(f"{base}/options", api.set_options, methods=["POST"]),
        Route(f"{base}/sd-models", api.models),
        Route(f"{base}/samplers", api.samplers),
        Route(f"{base}/schedulers", api.schedulers),
        Route(f"{base}/upscalers", api.upscalers),
        Route(f"{base}/loras", api.loras),
        *(Route(f"{base}/{name}", api.none) for name in lists),
        Route(f"{base}/refresh-checkpoints", api.refresh, methods=["POST"]),
        Route(f"{base}/refresh-loras", api.refresh, methods=["POST"]),
        Route(f"{base}/png-info", api.png_info, methods=["POST"]),
    ]


class Automatic1111:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._jobs = Jobs(gateway)
        self._options = Options(live_previews_enable=False)

    @described("Draw pictures from text", body=Txt2Img, answer=Drawn, asks=True)
    async def txt2img(self, request: Request) -> Any:
        return self._draw(request, Txt2Img, await read_body(request))

    @described("Draw pictures from a picture", body=Img2Img, answer=Drawn, asks=True)
    async def img2img(self, request: Request) -> Any:
        raw = await read_body(request, PICTURES_LIMIT)
        return await asyncio.to_thread(self._draw, request, Img2Img, raw)

    def _draw(self, request: Request, kind: type[Txt2Img], raw: bytes) -> Any:
        body = read_json(raw)
        fields = parse(kind, body)
        drawing = engine_request(fields, PREVIEWS if self._options.live_previews_enable else 0)
        chosen = fields.override_settings.sd_model_checkpoint if fields.override_settings else None
        id = request_context(request.scope).id
        shown = {name: value for name, value in body.items() if name not in ("init_images", "mask")}

        async def draw() -> Drawn:
            model = chosen or await self._checkpoint()
            return await self._jobs.draw(id, model, drawing, shown, ignored(body))

        return DeferredJson(draw)

    @described("How far the picture is that is being drawn", answer=Progress)
    async def progress(self, request: Request) -> Response:
        return JsonResponse(self._jobs.progress)

    @described("Stop what is being drawn", answer=Nothing)
    async def interrupt(self, request: Request) -> Response:
        await self._jobs.interrupt()
        return JsonResponse(Nothing())

    @described("The model that is used when a request names none", answer=Options)
    async def options(self, request: Request) -> Response:
        model = self._options.sd_model_checkpoint
        if model is None:
            models = await self._picture_models()
            model = models[0].title if models else ""
        return JsonResponse(Options(model, self._options.live_previews_enable))

    @described("Choose the model for all clients of this API", body=OptionsChange, answer=None)
    async def set_options(self, request: Request) -> Response:
        options = parse_body(OptionsChange, await read_body(request))
        model = options.sd_model_checkpoint or self._options.sd_model_checkpoint
        if options.sd_model_checkpoint:
            titles = [one.title for one in await self._picture_models()]
            if options.sd_model_checkpoint not in titles:
                raise BadRequest(
                    f"sd_model_checkpoint: {options.sd_model_checkpoint[:100]!r} is not a picture model on this machine; "
                    f"there are {', '.join(titles)[:500] or 'none'}"
                )
        previews = options.live_previews_enable
        previews = self._options.live_previews_enable if previews is None else previews
        self._options = Options(model, previews)
        return JsonResponse(None)

    @described("List the picture models", answer=list[Checkpoint])
    async def models(self, request: Request) -> Response:
        return JsonResponse(await self._picture_models())

    @described("List the samplers: models are sampled as they were made", answer=list[Sampler])
    async def samplers(self, request: Request) -> Response:
        return JsonResponse([Sampler("Euler", ["euler"], {})])

    @described("List the schedulers: each model has its own", answer=list[Scheduler])
    async def schedulers(self, request: Request) -> Response:
        return JsonResponse([Scheduler("automatic", "Automatic")])

    @described("List the upscalers: there is none", answer=list[Upscaler])
    async def upscalers(self, request: Request) -> Response:
        return JsonResponse([Upscaler("None", 1.0)])

    @described("List the adapters, which a prompt names as <lora:name:1>", answer=list[ListedLora])
    async def loras(self, request: Request) -> Response:
        source = AdapterSource(self._gateway.settings.loras)
        adapters = await asyncio.to_thread(installed_adapters, source)
        return JsonResponse(
            [ListedLora(one.name, one.name, one.name) for one in adapters if one.fault is None]
        )

    @described("List what this server has none of", answer=list[str])
    async def none(self, request: Request) -> Response:
        return JsonResponse([])

    @described("Without effect: lists are always fresh", answer=None)
    async def refresh(self, request: Request) -> Response:
        return JsonResponse(None)

    @described("Show the text in a PNG file, which says how it was made", body=PngInfoRequest, answer=PngInfo)
    async def png_info(self, request: Request) -> Response:
        sent = parse_body(PngInfoRequest, await read_body(request, PICTURES_LIMIT))
        texts = await asyncio.to_thread(_texts, sent.image)
        return JsonResponse(PngInfo(texts.get("parameters", ""), texts, texts))

    async def _checkpoint(self) -> str:
        if self._options.sd_model_checkpoint is not None:
            return self._options.sd_model_checkpoint
        models = await self._picture_models()
        if not models:
            raise ModelNotFound("there is no picture model on this machine; diptych pull downloads one")
        return models[0].title

    async def _picture_models(self) -> list[Checkpoint]:
        """Those that are loaded first."""
        models = await asyncio.to_thread(_picture_models, self._gateway)
        loaded = {loaded.model.name for loaded in self._gateway.pool.loaded}
        return sorted(models, key=lambda one: one.title not in loaded)


def _picture_models(gateway: Gateway) -> list[Checkpoint]:
    models = installed(gateway.resolver.aliases).models
    usable = [model for model in models if model.fault is None and model.mode is ModelMode.IMAGE]
    return [_checkpoint(model) for model in usable if names(model)]


def _checkpoint(model: Installed) -> Checkpoint:
    name = names(model)[0]
    return Checkpoint(name, name, name)


def _texts(image: str) -> dict[str, str]:
    try:
        return png_texts(base64.b64decode(data_of(image, "image"), validate=True))
    except (binascii.Error, ValueError):
        raise BadRequest("image: base64 of a PNG file is needed, as it is or as a data URI") from None
