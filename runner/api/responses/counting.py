"""POST /v1/responses/input_tokens."""

from typing import Any

from runner.api.lease import ask, leased
from runner.api.responses.chat import Responses
from runner.api.responses.history import read_history
from runner.api.responses.request import Prompted, check_input
from runner.api.responses.schemas import InputTokens
from runner.gateway.app import Gateway
from runner.protocol.text import RenderedPrompt, parse
from runner.sources import ModelMode


class InputTokensRequest(Prompted, frozen=True, kw_only=True):
    pass


async def count(gateway: Gateway, owner: str, body: dict[str, Any], id: str) -> InputTokens:
    request = parse(InputTokensRequest, body)
    check_input(request)
    history = await read_history(gateway.store, owner, request)
    responses = Responses(body, request, history)
    (prompt,) = responses.chat.engine_requests()
    async with leased(gateway, request.model, ModelMode.TEXT, None, id, prompt) as lease:
        rendered = await ask(lease, "/apply-template", prompt, RenderedPrompt)
    return InputTokens(rendered.tokens)
