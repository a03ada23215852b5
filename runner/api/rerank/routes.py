"""/v1/rerank, and the same under the paths that clients of other servers use."""

import uuid
from typing import Any

from msgspec import UNSET
from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson, ask, leased
from runner.api.openai.routes import asking
from runner.api.rerank.schemas import Document, Ranked, Ranking, RerankCall, RerankUsage
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.http.bodies import read_body
from runner.http.middleware import request_context
from runner.protocol.rerank import RerankDone, RerankRequest
from runner.protocol.text import parse_body
from runner.sources import ModelMode

PATHS = ("/v1/rerank", "/v2/rerank", "/rerank")


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = Rerank(gateway)
    return [Route(path, api.rerank, methods=["POST"]) for path in PATHS]


class Rerank:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    @asking("Rank documents by their relevance to a query", body=RerankCall, answer=Ranking)
    async def rerank(self, request: Request) -> Any:
        body = await read_body(request)
        id = request_context(request.scope).id
        return DeferredJson(lambda: ranking(self._gateway, body, id))


async def ranking(gateway: Gateway, body: bytes, id: str) -> Ranking:
    call = parse_body(RerankCall, body)
    documents = [one if isinstance(one, str) else one.text for one in call.documents]
    request = RerankRequest(call.query, documents, call.truncate, call.instruction)
    async with leased(gateway, call.model, ModelMode.TEXT, keep_alive_seconds(call.keep_alive), id) as lease:
        answer = await ask(lease, "/rerank", request, RerankDone)
    best = sorted(enumerate(answer.scores), key=lambda entry: (-entry[1], entry[0]))[: call.top_n]
    results = [
        Ranked(index, score, Document(documents[index]) if call.return_documents else UNSET)
        for index, score in best
    ]
    tokens = answer.prompt_eval_count
    return Ranking(f"rerank-{uuid.uuid4().hex}", call.model, RerankUsage(tokens, tokens), results)
