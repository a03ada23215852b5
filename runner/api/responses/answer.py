"""POST /v1/responses: the answer, whole or as a stream of events."""

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from runner.api.lease import sse
from runner.api.openai.chat_stream import ChatAnswer
from runner.api.openai.errors import openai_error
from runner.api.responses.output import Ended, Output, new_id
from runner.api.responses.request import Responses
from runner.api.responses.schemas import (
    Effort,
    Incomplete,
    InputDetails,
    OutputDetails,
    Response,
    ResponseUsage,
    Status,
)
from runner.errors import DiptychError
from runner.gateway.app import Gateway


class ResponsesAnswer:
    def __init__(self, gateway: Gateway, responses: Responses, id: str) -> None:
        self._responses = responses
        self._chat = ChatAnswer(gateway, responses.chat, id)
        self._output = Output()
        self._sequence = 0
        self._id = new_id("resp")
        self._created = int(time.time())

    async def stream(self) -> AsyncGenerator[bytes, None]:
        finish = ""
        async with aclosing(self._chat.deltas()) as deltas:
            async for _, delta in deltas:
                if not self._sequence:
                    yield self._event("response.created", {"response": self._response("in_progress")})
                    yield self._event("response.in_progress", {"response": self._response("in_progress")})
                for name, fields in self._output.add(delta):
                    yield self._event(name, fields)
                finish = delta.finish or finish
        status = _status(finish)
        for name, fields in self._output.close(status):
            yield self._event(name, fields)
        yield self._event(f"response.{status}", {"response": self._response(status)})

    async def whole(self) -> Response:
        finish = ""
        async with aclosing(self._chat.deltas()) as deltas:
            async for _, delta in deltas:
                for _event in self._output.add(delta):
                    continue
                finish = delta.finish or finish
        status = _status(finish)
        for _event in self._output.close(status):
            continue
        return self._response(status)

    def last(self, error: DiptychError) -> bytes:
        """The event for an error after the first event."""
        failure = openai_error(error).error
        fields = {"code": failure.code, "message": failure.message, "param": failure.param}
        return self._event("error", fields)

    def _event(self, name: str, fields: dict[str, Any]) -> bytes:
        self._sequence += 1
        return sse({"type": name, "sequence_number": self._sequence - 1, **fields}, name)

    def _response(self, status: Status) -> Response:
        request = self._responses.request
        tools = [
            {"strict": None, "parameters": None, "description": None, **tool} for tool in request.tools or []
        ]
        return Response(
            id=self._id,
            created_at=self._created,
            status=status,
            incomplete_details=Incomplete() if status == "incomplete" else None,
            instructions=request.instructions,
            max_output_tokens=request.max_output_tokens,
            metadata=request.metadata or {},
            model=request.model,
            output=self._output.items,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            reasoning=Effort(request.reasoning.effort if request.reasoning else None),
            temperature=1.0 if request.temperature is None else request.temperature,
            text={"format": _shown_format(self._responses)},
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=tools,
            top_p=1.0 if request.top_p is None else request.top_p,
            usage=None if status == "in_progress" else self._usage(),
        )

    def _usage(self) -> ResponseUsage:
        usage = self._chat.usage()
        return ResponseUsage(
            usage.prompt_tokens,
            InputDetails(usage.prompt_tokens_details.cached_tokens),
            usage.completion_tokens,
            OutputDetails(usage.completion_tokens_details.reasoning_tokens),
            usage.total_tokens,
        )


def _status(finish: str) -> Ended:
    return "incomplete" if finish == "length" else "completed"


def _shown_format(responses: Responses) -> dict[str, Any]:
    format = responses.request.text.format
    if format is None or format.type != "json_schema":
        return {"type": "text" if format is None else format.type}
    return {"type": "json_schema", "name": format.name or "", "schema": format.definition, "strict": True}
