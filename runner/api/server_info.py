"""What clients of llama-server and vLLM ask a server about itself and its model: /health, /version, /props, /slots,
/tokenizer_info."""

import asyncio
from importlib import metadata
from typing import Any, Literal

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.errors import BadRequest, ModelNotFound
from runner.gateway.app import Gateway
from runner.gateway.estimate import option
from runner.gateway.lease import LoadedModel
from runner.gateway.schemas import Health
from runner.http.bodies import JsonResponse
from runner.http.operation import operation
from runner.inspect.capabilities import chat_template
from runner.protocol.text import parse
from runner.sources import ModelFiles, ModelMode, find

BATCH = 64  # texts that a runner writes together, if its options do not say


class ModelQuery(Struct, frozen=True):
    """One of the loaded language models; without it the only one."""

    model: str | None = None


class Version(Struct, frozen=True):
    version: str


class GenerationSettings(Struct, frozen=True):
    n_ctx: int


class Modalities(Struct, frozen=True):
    vision: bool
    audio: bool = False


class Props(Struct, frozen=True, kw_only=True):
    default_generation_settings: GenerationSettings
    total_slots: int
    model_alias: str
    model_path: str
    chat_template: str
    bos_token: str
    eos_token: str
    modalities: Modalities
    build_info: str
    is_sleeping: Literal[False] = False


class Slot(Struct, frozen=True):
    """A text that may be written beside others."""

    id: int
    n_ctx: int
    is_processing: bool


def routes(gateway: Gateway) -> list[BaseRoute]:
    info = ServerInfo(gateway)
    return [
        Route("/health", info.health),
        Route("/version", info.version),
        Route("/props", info.props),
        Route("/slots", info.slots),
        Route("/tokenizer_info", info.tokenizer_info),
    ]


class ServerInfo:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @operation("Check that the gateway is alive; needs no key (llama-server's and vLLM's)", answer=Health)
    async def health(self, request: Request) -> Response:
        return JsonResponse(Health())

    @operation("Show the version of Diptych (vLLM's)", answer=Version)
    async def version(self, request: Request) -> Response:
        return JsonResponse(Version(metadata.version("diptych")))

    @operation(
        "Show the settings of a loaded language model (llama-server's)",
        query=ModelQuery,
        answer=Props,
        asks=True,
    )
    async def props(self, request: Request) -> Response:
        name, loaded = self._loaded(request)
        return JsonResponse(await asyncio.to_thread(_props, name, loaded))

    @operation(
        "Show how many texts a loaded language model is writing (llama-server's)",
        query=ModelQuery,
        answer=list[Slot],
        asks=True,
    )
    async def slots(self, request: Request) -> Response:
        _, loaded = self._loaded(request)
        length = loaded.backend.context_length
        return JsonResponse([Slot(index, length, index < loaded.active) for index in range(_batch(loaded))])

    @operation(
        "Show a loaded language model's tokenizer_config.json (vLLM's)",
        query=ModelQuery,
        answer=dict[str, Any],
        asks=True,
    )
    async def tokenizer_info(self, request: Request) -> Response:
        _, loaded = self._loaded(request)
        return JsonResponse(await asyncio.to_thread(_tokenizer_info, find(loaded.model.argument)))

    def _loaded(self, request: Request) -> tuple[str, LoadedModel]:
        pool = self._gateway.pool
        texts = [loaded for loaded in pool.loaded if loaded.model.mode is ModelMode.TEXT]
        name = parse(ModelQuery, dict(request.query_params)).model
        if name is None and len(texts) == 1:
            return pool.only_name or texts[0].model.name, texts[0]
        if name is None:
            count = f"{len(texts)} language models are" if texts else "no language model is"
            raise BadRequest(f"model is missing; {count} loaded, and ?model= names one")
        for loaded in texts:
            if pool.loaded_as(name) is loaded.model or name == loaded.model.name:
                return name, loaded
        raise ModelNotFound(f"no language model {name[:200]!r} is loaded")


def _props(name: str, loaded: LoadedModel) -> Props:
    files = find(loaded.model.argument)
    config = files.read_json("tokenizer_config.json") or {}
    return Props(
        default_generation_settings=GenerationSettings(loaded.backend.context_length),
        total_slots=_batch(loaded),
        model_alias=name,
        model_path=loaded.model.name,
        chat_template=chat_template(files),
        bos_token=_token(config.get("bos_token")),
        eos_token=_token(config.get("eos_token")),
        modalities=Modalities(not loaded.model.blind),
        build_info=f"diptych {metadata.version('diptych')}",
    )


def _batch(loaded: LoadedModel) -> int:
    return int(option(loaded.model.options, "batch") or BATCH)


def _token(value: Any) -> str:
    """A token of tokenizer_config.json: text, or an object with it."""
    content = value.get("content") if isinstance(value, dict) else value
    return content if isinstance(content, str) else ""


def _tokenizer_info(files: ModelFiles) -> dict[str, Any]:
    config = files.read_json("tokenizer_config.json") or {}
    return {"tokenizer_class": None, **config, "chat_template": chat_template(files) or None}
