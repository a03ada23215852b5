"""OpenAI's Responses API: its routes and their handlers."""

import sqlite3
from typing import Any

from starlette.requests import Request
from starlette.responses import Response as HttpResponse
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson, sse
from runner.api.openai.errors import openai_error
from runner.api.openai.routes import MEDIA, asking, described
from runner.api.responses import conversation_routes
from runner.api.responses.answer import ResponsesAnswer
from runner.api.responses.background import Background
from runner.api.responses.chat import Responses
from runner.api.responses.compaction import CompactRequest, compact
from runner.api.responses.counting import InputTokensRequest, count
from runner.api.responses.history import read_history
from runner.api.responses.names import named
from runner.api.responses.record import Record
from runner.api.responses.request import INPUT_RULE, RULES, UNSUPPORTED, ResponsesRequest, read_request
from runner.api.responses.schemas import Compacted, Deleted, InputTokens, ItemList, Response, ResponseEvent
from runner.api.responses.stored import (
    ENDED,
    ListQuery,
    RetrieveQuery,
    item_list,
    last_event,
    needed_store,
    not_found,
    owner,
    read_query,
    whole,
)
from runner.errors import BadRequest, DiptychError
from runner.gateway.app import Gateway
from runner.gateway.responses import Stream
from runner.http.bodies import PICTURES_LIMIT, JsonResponse, read_body
from runner.http.middleware import request_context
from runner.protocol.text import read_json
from runner.store import responses, threads
from runner.store.responses import Stored


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = ResponsesApi(gateway)
    one = "/v1/responses/{id}"
    return [
        Route("/v1/responses", api.create, methods=["POST"]),
        Route("/v1/responses/input_tokens", api.input_tokens, methods=["POST"]),
        Route("/v1/responses/compact", api.compact, methods=["POST"]),
        Route(one, api.retrieve),
        Route(one, api.delete, methods=["DELETE"]),
        Route(f"{one}/cancel", api.cancel, methods=["POST"]),
        Route(f"{one}/input_items", api.input_items),
        *conversation_routes.routes(gateway),
    ]


class ResponsesApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._background = Background()
        gateway.on_close(self._background.close)

    @asking(
        "Create a response",
        body=ResponsesRequest,
        rules=RULES,
        refused=UNSUPPORTED,
        answer=Response,
        pieces=ResponseEvent,
        error_piece=ResponseEvent,
    )
    async def create(self, request: Request) -> Any:
        body = read_json(await read_body(request, PICTURES_LIMIT))
        asked = read_request(body)
        owned = owner(self._gateway, request)
        history = await read_history(self._gateway.store, owned, asked)
        made = Responses(body, asked, history)
        record = Record(None if asked.store is False else self._gateway.store, owned, history)
        if asked.background:
            return await self._in_background(asked, made, record)
        id = request_context(request.scope).id
        answer = ResponsesAnswer(self._gateway, asked, made, record, id)
        return Stream(answer.stream(), MEDIA, answer.failed) if asked.stream else DeferredJson(answer.whole)

    async def _in_background(self, request: ResponsesRequest, made: Responses, record: Record) -> Any:
        if not record.kept:
            raise BadRequest(
                "background: true is not allowed, because this server was started with --no-store"
            )
        answer = ResponsesAnswer(self._gateway, request, made, record)
        queued, run = await self._background.start(answer)
        return Stream(run.follow(), MEDIA, answer.failed) if request.stream else JsonResponse(queued)

    @described(
        "Get a stored response",
        query=RetrieveQuery,
        answer=Response,
        stream="text/event-stream",
        pieces=ResponseEvent,
    )
    async def retrieve(self, request: Request) -> Any:
        query = read_query(RetrieveQuery, request)
        stored = await self._stored(request)
        if not query.stream:
            return JsonResponse(whole(stored))
        run = self._background.find(request.path_params["id"])
        if run is not None:
            return Stream(run.follow(query.starting_after), MEDIA, run.answer.failed)
        if stored.body["status"] not in ENDED:
            raise BadRequest("stream: this response is made by another process; poll it without stream")
        return Stream(last_event(stored, query.starting_after), MEDIA, _last)

    @described("Delete a stored response", answer=Deleted)
    async def delete(self, request: Request) -> HttpResponse:
        store, id, owned = (
            needed_store(self._gateway),
            request.path_params["id"],
            owner(self._gateway, request),
        )
        await self._stored(request)
        if run := self._background.find(id):
            await run.stop()
        if not await store.run(lambda db: responses.delete(db, owned, id)):
            raise not_found("a response", id)
        return JsonResponse(Deleted(id))

    @described("Cancel a response that is made in the background", answer=Response)
    async def cancel(self, request: Request) -> HttpResponse:
        stored = await self._stored(request)
        if not stored.body["background"]:
            raise BadRequest(
                "background: only responses that were created with background true can be cancelled"
            )
        if run := self._background.find(request.path_params["id"]):
            await run.stop()
        elif stored.body["status"] not in ENDED:
            await self._end_elsewhere(request, stored)
        return JsonResponse(whole(await self._stored(request)))

    async def _end_elsewhere(self, request: Request, stored: Stored) -> None:
        """Another process makes it: what it makes is not stored any more."""
        id, body = request.path_params["id"], {**stored.body, "status": "cancelled"}
        await needed_store(self._gateway).run(lambda db: responses.end(db, id, body))

    @described("List the items that a response was made from", query=ListQuery, answer=ItemList)
    async def input_items(self, request: Request) -> HttpResponse:
        query: ListQuery = read_query(ListQuery, request)
        store, id = needed_store(self._gateway), request.path_params["id"]
        await self._stored(request)

        def read(db: sqlite3.Connection) -> threads.Page:
            rows = responses.read_items(db, id, output=False)
            return threads.page(db, rows, query.after, query.limit, query.order == "desc")

        return JsonResponse(item_list(await store.run(read)))

    @asking("Count the tokens of an input", body=InputTokensRequest, rules=(INPUT_RULE,), answer=InputTokens)
    async def input_tokens(self, request: Request) -> Any:
        body = read_json(await read_body(request, PICTURES_LIMIT))
        id, owned = request_context(request.scope).id, owner(self._gateway, request)
        return DeferredJson(named(lambda: count(self._gateway, owned, body, id)))

    @asking("Make a conversation shorter", body=CompactRequest, rules=(INPUT_RULE,), answer=Compacted)
    async def compact(self, request: Request) -> Any:
        body = read_json(await read_body(request, PICTURES_LIMIT))
        id, owned = request_context(request.scope).id, owner(self._gateway, request)
        return DeferredJson(named(lambda: compact(self._gateway, owned, body, id)))

    async def _stored(self, request: Request) -> Stored:
        store, id, owned = (
            needed_store(self._gateway),
            request.path_params["id"],
            owner(self._gateway, request),
        )
        stored = await store.run(lambda db: responses.get(db, owned, id, store.writer.is_gone))
        if stored is None:
            raise not_found("a response", id)
        return stored


def _last(error: DiptychError) -> bytes:
    return sse(openai_error(error))
