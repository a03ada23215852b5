"""A response while it is made: its events, its states, and what is stored of it."""

import asyncio
import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from runner.api.lease import sse
from runner.api.openai.chat_stream import ChatAnswer
from runner.api.openai.errors import openai_error
from runner.api.responses.chat import ENCRYPTED, Responses
from runner.api.responses.names import own_name
from runner.api.responses.output import Ended, NamedEvent, Output, new_id
from runner.api.responses.record import Record
from runner.api.responses.request import ResponsesRequest
from runner.api.responses.schemas import (
    ConversationId,
    Effort,
    Fault,
    Incomplete,
    Response,
    Status,
    Verbosity,
)
from runner.api.responses.usage import response_usage
from runner.errors import BadRequest, Busy, DiptychError
from runner.gateway.app import Gateway

LOST = Fault("server_error", "the server ended while this response was being made")


class ResponsesAnswer:
    def __init__(
        self, gateway: Gateway, request: ResponsesRequest, responses: Responses, record: Record, id: str = ""
    ) -> None:
        """`id` is the HTTP request's; by default the response's own."""
        self.id = new_id("resp")
        self._request = request
        self._responses = responses
        self._record = record
        self._chat = ChatAnswer(gateway, responses.chat, id or self.id)
        self._output = Output(responses.tools, ENCRYPTED in (request.include or []), responses.held)
        self._created = int(time.time())
        self._completed: int | None = None
        self._error: Fault | None = None
        self._sequence = 0
        self._ended = False
        self._final: Response | None = None

    async def queue(self) -> Response:
        """In the background: it is stored before it begins."""
        response = self._response("queued")
        await self._record.begin(response, must=True)
        return response

    async def events(self) -> AsyncGenerator[dict[str, Any], None]:
        """All events, numbered. If it fails, `failed` has the last ones."""
        try:
            async with aclosing(self._named_events()) as events:
                async for name, fields in events:
                    yield self._numbered(name, fields)
        except DiptychError as error:
            self._error = _fault(own_name(error))
            self._end("failed")
            raise
        finally:
            self._end("cancelled")

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.events()) as events:
            async for event in events:
                yield sse(event, event["type"])

    async def whole(self) -> Response:
        async with aclosing(self.events()) as events:
            async for _event in events:
                continue
        assert self._final is not None
        return self._final

    def failed(self, error: DiptychError) -> bytes:
        """The events for an error after the first event."""
        failure = openai_error(error).error
        fields = {"code": failure.code, "message": failure.message, "param": failure.param}
        events = (self._numbered("error", fields), self._numbered("response.failed", self._shown("failed")))
        return b"".join(sse(event, event["type"]) for event in events)

    def lose(self) -> None:
        """The server stops: it has failed."""
        self._error = LOST
        self._end("failed")

    async def _named_events(self) -> AsyncGenerator[NamedEvent, None]:
        finish, begun = "", False
        if self._request.background:
            yield "response.created", self._shown("queued")
            yield "response.queued", self._shown("queued")
        async with aclosing(self._chat.deltas()) as deltas:
            async for _, delta in deltas:
                if not begun:
                    begun = True
                    if self._request.background:
                        self._record.update(self._response("in_progress"))
                    elif self._request.stream:
                        await self._record.begin(self._response("in_progress"))
                        yield "response.created", self._shown("in_progress")
                    yield "response.in_progress", self._shown("in_progress")
                for event in self._output.add(delta):
                    yield event
                finish = delta.finish or finish
        status: Ended = "incomplete" if finish == "length" else "completed"
        for event in self._output.close(status):
            yield event
        yield f"response.{status}", {"response": await self._finish(status)}

    async def _finish(self, status: Ended) -> Response:
        """The final response, once it is stored."""
        self._completed = int(time.time()) if status == "completed" else None
        self._ended = True
        storing = asyncio.ensure_future(self._record.finish(self._response(status)))
        await asyncio.shield(storing)
        self._final = self._response(status)
        return self._final

    def _end(self, status: Status) -> None:
        """End it before it is complete, unless it has ended."""
        if self._ended:
            return
        self._ended = True
        for _event in self._output.close("incomplete"):
            continue
        self._final = self._response(status)
        self._record.abandon(self._final)

    def _numbered(self, name: str, fields: dict[str, Any]) -> dict[str, Any]:
        self._sequence += 1
        return {"type": name, "sequence_number": self._sequence - 1, **fields}

    def _shown(self, status: Status) -> dict[str, Any]:
        return {"response": self._response(status)}

    def _response(self, status: Status) -> Response:
        request = self._request
        conversation = self._record.conversation
        return Response(
            id=self.id,
            created_at=self._created,
            completed_at=self._completed,
            status=status,
            error=self._error,
            incomplete_details=Incomplete() if status == "incomplete" else None,
            instructions=request.instructions,
            previous_response_id=request.previous_response_id,
            conversation=ConversationId(conversation) if conversation else None,
            background=bool(request.background),
            store=self._record.kept,
            max_output_tokens=request.max_output_tokens,
            max_tool_calls=request.max_tool_calls,
            metadata=request.metadata or {},
            model=request.model,
            output=self._output.items,
            parallel_tool_calls=request.parallel_tool_calls is not False,
            reasoning=Effort(request.reasoning.effort if request.reasoning else None),
            temperature=1.0 if request.temperature is None else request.temperature,
            top_p=1.0 if request.top_p is None else request.top_p,
            presence_penalty=request.presence_penalty or 0.0,
            frequency_penalty=request.frequency_penalty or 0.0,
            top_logprobs=request.top_logprobs or 0,
            text=Verbosity(_shown_format(request), request.text.verbosity or "medium"),
            tool_choice="auto" if request.tool_choice is None else request.tool_choice,
            tools=[_shown_tool(tool) for tool in request.tools or []],
            truncation=request.truncation or "disabled",
            usage=response_usage(self._chat.usage()) if status in ("completed", "incomplete") else None,
            user=request.user,
            safety_identifier=request.safety_identifier,
            prompt_cache_key=request.prompt_cache_key,
            prompt_cache_retention=request.prompt_cache_retention,
            warnings=self._warnings(),
        )

    def _warnings(self) -> list[str]:
        failure = [self._record.failure] if self._record.failure else []
        return [*self._responses.warnings, *self._chat.warnings, *failure]


def _fault(error: DiptychError) -> Fault:
    if isinstance(error, Busy):
        return Fault("rate_limit_exceeded", error.message)
    return Fault("invalid_prompt" if isinstance(error, BadRequest) else "server_error", error.message)


def _shown_tool(tool: dict[str, Any]) -> dict[str, Any]:
    if tool.get("type") != "function":
        return tool
    return {"strict": None, "parameters": None, "description": None, **tool}


def _shown_format(request: ResponsesRequest) -> dict[str, Any]:
    format = request.text.format
    if format is None or format.type != "json_schema":
        return {"type": "text" if format is None else format.type}
    return {"type": "json_schema", "name": format.name or "", "schema": format.definition, "strict": True}
