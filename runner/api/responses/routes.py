"""OpenAI's Responses API: its routes and their handlers."""

from typing import Any

from starlette.requests import Request
from starlette.routing import BaseRoute, Route

from runner.api.lease import DeferredJson
from runner.api.openai.routes import MEDIA, asking
from runner.api.responses.answer import ResponsesAnswer
from runner.api.responses.request import RULES, UNSUPPORTED, Responses, ResponsesRequest
from runner.api.responses.schemas import Response, ResponseEvent
from runner.gateway.app import Gateway
from runner.gateway.responses import Stream
from runner.http.bodies import read_body
from runner.http.middleware import request_context
from runner.protocol.text import read_json


def routes(gateway: Gateway) -> list[BaseRoute]:
    api = ResponsesApi(gateway)
    return [Route("/v1/responses", api.create, methods=["POST"])]


class ResponsesApi:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

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
        responses = Responses(read_json(await read_body(request)))
        answer = ResponsesAnswer(self._gateway, responses, request_context(request.scope).id)
        return (
            Stream(answer.stream(), MEDIA, answer.last)
            if responses.request.stream
            else DeferredJson(answer.whole)
        )
