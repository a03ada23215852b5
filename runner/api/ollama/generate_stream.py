"""Ollama's /api/generate and /api/chat: native events as lines, or as one answer."""

import secrets
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime
from time import perf_counter_ns
from typing import Any

from runner.api.lease import DOES
from runner.api.logprobs import logprob
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.requests import Generate, Request
from runner.errors import BadRequest
from runner.gateway.app import Gateway
from runner.gateway.lease import Lease
from runner.gateway.proxy import keep_alive_seconds
from runner.process.supervisor import Event
from runner.protocol.text import encode
from runner.sources import ModelMode

Line = dict[str, Any]


class Answer:
    """`lines` are the whole of it; `whole` is what they come to."""

    def __init__(self, gateway: Gateway, catalog: ModelCatalog, request: Request, id: str) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._request = request
        self._id = id
        self._keep_alive = keep_alive_seconds(request.asked.keep_alive)
        self._began = perf_counter_ns()
        self._loaded = self._began
        self._calls = 0

    async def stream(self) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.lines()) as lines:
            async for line in lines:
                yield encode(line) + b"\n"

    async def whole(self) -> Line:
        said: Line = {}
        async with aclosing(self.lines()) as lines:
            async for line in lines:
                _add(said, line)
        # Steps on the way are for those who watch.
        said.pop("completed", None)
        said.pop("total", None)
        return said

    async def lines(self) -> AsyncGenerator[Line, None]:
        name, known = await self._catalog.resolve(self._request.asked.model)
        if self._request.empty:
            yield await self._load(name)
            return
        mode = known.mode
        self._request.take(await self._catalog.defaults(known))
        native = self._native(mode)
        async with await self._gateway.pool.acquire(name, self._keep_alive, id=self._id) as lease:
            self._loaded = perf_counter_ns()
            if native.get("think"):
                await self._catalog.check_thinking(known, self._request.asked.model)
            self._request.options.warn_of_context(lease.server.context_length)
            async with aclosing(self._events(lease, native, mode)) as found:
                async for line in found:
                    yield line

    def _native(self, mode: ModelMode) -> dict[str, Any]:
        if mode is ModelMode.TEXT:
            return self._request.text()
        if isinstance(self._request, Generate):
            return self._request.picture()
        raise BadRequest(f"model: {self._request.asked.model} {DOES[mode]}; /api/generate is for it")

    async def _load(self, name: str) -> Line:
        """Without a prompt a model is loaded, or ended by a keep_alive of 0."""
        if self._keep_alive == 0:
            if await self._gateway.pool.stop(name) is None:
                await self._catalog.find(name)  # which says so when there is no such model at all
            return self._line() | self._said() | {"done": True, "done_reason": "unload"}
        (await self._gateway.pool.acquire(name, self._keep_alive, id=self._id)).release()
        return self._line() | self._said() | {"done": True, "done_reason": "load"}

    async def _events(self, lease: Lease, native: Line, mode: ModelMode) -> AsyncGenerator[Line, None]:
        async with aclosing(lease.events(native, id=self._id)) as events:
            async for event in events:
                if mode is ModelMode.IMAGE:
                    yield self._drawn(event)
                    continue
                line = self._written(event)
                if line is not None:
                    yield line
                if event.get("done"):
                    yield self._line() | self._said() | self._done(event)

    # -- one line each

    def _line(self) -> Line:
        return {"model": self._request.asked.model, "created_at": now(), "done": False}

    def _said(self, content: str = "", thinking: str = "", calls: list[Line] | None = None) -> Line:
        thought = {"thinking": thinking} if thinking else {}
        if self._request.kind == "generate":
            return {"response": content} | thought
        called = {"tool_calls": calls} if calls else {}
        return {"message": {"role": "assistant", "content": content} | thought | called}

    def _written(self, event: Event) -> Line | None:
        content, thinking = event.get("content", ""), event.get("thinking", "")
        calls = [self._call(call) for call in event.get("tool_calls", [])]
        logprobs = [logprob(token) for token in event.get("logprobs") or []]
        if not (content or thinking or calls or logprobs):
            return None
        line = self._line() | self._said(content, thinking, calls)
        return line | {"logprobs": logprobs} if logprobs else line

    def _call(self, call: Line) -> Line:
        self._calls += 1
        place = self._calls - 1
        about = {"index": place, "name": call["name"], "arguments": call["arguments"]}
        # Ollama has the index in the function alone; LiteLLM looks for it here, and else takes two calls for one.
        return {"id": f"call_{secrets.token_hex(4)}", "index": place, "function": about}

    def _drawn(self, event: Event) -> Line:
        if event.get("done"):
            about = {name: event[name] for name in ("seed", "width", "height")}
            return self._line() | {"response": "", "image": event["image"]} | about | self._done(event)
        return self._line() | {
            "response": "",
            "completed": event.get("step", 0),
            "total": event["total"],
        }

    def _done(self, event: Event) -> Line:
        counts = ("prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration")
        asked = self._request
        warnings = [*asked.warnings, *asked.options.warnings, *event.get("warnings", [])]
        return {
            "done": True,
            "done_reason": "length" if event.get("done_reason") else "stop",
            "total_duration": perf_counter_ns() - self._began,
            "load_duration": self._loaded - self._began,
            **{name: event[name] for name in counts if name in event},
            **({"warnings": warnings} if warnings else {}),
        }


def _add(said: Line, line: Line) -> None:
    """A line onto what was said before it."""
    for name, value in line.items():
        if name in ("response", "thinking", "content", "logprobs", "tool_calls") and name in said:
            said[name] += value
        elif name == "message" and name in said:
            _add(said[name], value)
        else:
            said[name] = value


def now() -> str:
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")
