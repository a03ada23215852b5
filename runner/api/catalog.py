"""GET /library: the models on this machine as the page lists them, including those that cannot run."""

import asyncio

from msgspec import Struct
from starlette.requests import Request
from starlette.responses import Response

from runner.api.lease import names
from runner.gateway.app import Gateway
from runner.http.bodies import JsonResponse
from runner.http.operation import operation
from runner.inspect.sample import FOLDERS
from runner.library import Installed, installed
from runner.library.facts import capabilities, files_of, picture_fields
from runner.sources import ModelMode

SAMPLES = frozenset(map(str, FOLDERS.values()))


class Listed(Struct, frozen=True):
    """`name` is what requests use, `model` the name in GET /models. Of a picture model, `side` is the side of the pictures that
    it was made for, and `supported_parameters` are those that have an effect on it; null: unknown."""

    name: str
    names: tuple[str, ...]
    model: str
    source: str
    mode: ModelMode | None
    type: str
    bytes: int
    sample: bool
    fault: str | None
    capabilities: tuple[str, ...]
    side: int | None
    supported_parameters: tuple[str, ...] | None = None
    max_references: int | None = None


class Library(Struct, frozen=True):
    models: list[Listed]


class Listing:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @operation("List the models on this machine, including those that cannot be run", answer=Library)
    async def answer(self, request: Request) -> Response:
        return JsonResponse(Library(await asyncio.to_thread(self._listed)))

    def _listed(self) -> list[Listed]:
        models = installed(self._gateway.resolver.aliases).models
        return [listed(model) for model in models if names(model)]


def listed(model: Installed) -> Listed:
    usable = model.fault is None
    return Listed(
        name=(*model.aliases, model.name)[0],
        names=names(model),
        model=model.name,
        source=model.source,
        mode=model.mode,
        type=model.type,
        bytes=model.bytes,
        sample=model.name in SAMPLES,
        fault=model.fault,
        capabilities=capabilities(model) if usable else (),
        side=side(model) if usable and model.mode is ModelMode.IMAGE else None,
        **picture_fields(model),
    )


def side(model: Installed) -> int | None:
    """The side of the pictures that a model was made for, if its autoencoder's files state it."""
    size = (files_of(model).read_json("vae/config.json") or {}).get("sample_size")
    return size if isinstance(size, int) and size > 0 else None
