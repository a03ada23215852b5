"""The routes of the hub."""

import asyncio
from typing import Annotated, Any

from msgspec import Meta, Struct
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from runner.api.hub.downloads import Downloads, DownloadState
from runner.api.hub.examination import Examined, examine
from runner.api.lease import DeferredJson
from runner.errors import Busy
from runner.gateway.app import Gateway
from runner.http.bodies import JsonResponse, read_body
from runner.http.operation import operation
from runner.library.hub_search import HubModel, Kind, search_hub
from runner.protocol.text import parse, parse_body
from runner.threads import run_in_daemon_thread

MOST_AT_ONCE = 8  # searches and examinations
Name = Annotated[str, Meta(min_length=1, max_length=300)]


class SearchQuery(Struct, frozen=True):
    """`kind`: text for models that write, image for those that draw."""

    search: Annotated[str, Meta(max_length=200)] = ""
    kind: Kind | None = None
    limit: Annotated[int, Meta(ge=1, le=100)] = 20


class ExamineQuery(Struct, frozen=True):
    model: Name


class DownloadRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`force`: also if it cannot be run."""

    model: Name
    force: bool = False


class DownloadName(Struct, frozen=True, forbid_unknown_fields=True):
    model: Name


class HubModels(Struct, frozen=True):
    models: list[HubModel]


class DownloadList(Struct, frozen=True):
    downloads: list[DownloadState]


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = HubApi(gateway)
    return [
        Route("/hub/search", api.search),
        Route("/hub/model", api.examine),
        Route("/hub/downloads", api.list),
        Route("/hub/downloads", api.start, methods=["POST"]),
        Route("/hub/downloads/pause", api.pause, methods=["POST"]),
        Route("/hub/downloads/cancel", api.cancel, methods=["POST"]),
    ]


class HubApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._downloads = Downloads(gateway.resolver.forget)
        self._asking = asyncio.Semaphore(MOST_AT_ONCE)
        gateway.on_close(self._downloads.close)

    @operation("Search the hub for models", query=SearchQuery, answer=HubModels, asks=True)
    async def search(self, request: Request) -> Any:
        query: SearchQuery = parse(SearchQuery, dict(request.query_params), strict=False)
        self._check_room()

        async def found() -> HubModels:
            async with self._asking:
                work = lambda: search_hub(query.search.strip(), query.kind, query.limit)  # noqa: E731
                return HubModels(await run_in_daemon_thread(work))

        return DeferredJson(found)

    @operation(
        "Examine a model of the hub: its size, and whether it fits here",
        query=ExamineQuery,
        answer=Examined,
        asks=True,
    )
    async def examine(self, request: Request) -> Any:
        query: ExamineQuery = parse(ExamineQuery, dict(request.query_params))
        self._check_room()

        async def examined() -> Examined:
            async with self._asking:
                return await examine(self._gateway, query.model)

        return DeferredJson(examined)

    @operation("List the downloads", answer=DownloadList)
    async def list(self, request: Request) -> Response:
        return JsonResponse(DownloadList(self._downloads.states))

    @operation(
        "Download a model from the hub, or resume that",
        status=202,
        body=DownloadRequest,
        answer=DownloadState,
        asks=True,
    )
    async def start(self, request: Request) -> Response:
        fields = parse_body(DownloadRequest, await read_body(request))
        return JsonResponse(self._downloads.start(fields.model, fields.force), status_code=202)

    @operation(
        "Pause a download", body=DownloadName, answer=DownloadState, missing="It is not being downloaded."
    )
    async def pause(self, request: Request) -> Response:
        fields = parse_body(DownloadName, await read_body(request))
        return JsonResponse(await self._downloads.pause(fields.model))

    @operation(
        "Cancel a download, and remove what has arrived",
        body=DownloadName,
        answer=DownloadState,
        missing="It is not being downloaded.",
    )
    async def cancel(self, request: Request) -> Response:
        fields = parse_body(DownloadName, await read_body(request))
        return JsonResponse(await self._downloads.cancel(fields.model))

    def _check_room(self) -> None:
        """A hub that does not respond must not pile requests up."""
        if self._asking.locked():
            raise Busy("the hub has not yet responded to others", retry_after=5)
