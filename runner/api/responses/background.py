"""Responses that are made in the background: polled, followed, cancelled."""

import asyncio
import logging
from collections.abc import AsyncGenerator

from runner.api.responses.answer import ResponsesAnswer
from runner.api.responses.schemas import Response
from runner.errors import DiptychError

# Clients that follow a response are answered at once, even if its next event takes long.
COMMENT = b":\n\n"

log = logging.getLogger("diptych.http")


class Run:
    """One response. Its events are kept while it is made, for clients that follow it."""

    def __init__(self, answer: ResponsesAnswer) -> None:
        self.answer = answer
        self._events: list[bytes] = []
        self._changed = asyncio.Event()
        self.task = asyncio.create_task(self._make())

    async def _make(self) -> None:
        try:
            async for event in self.answer.stream():
                self._add(event)
        except DiptychError as error:
            log.info("response %s failed: %s", self.answer.id, error.message)
            self._add(self.answer.failed(error))
        finally:
            self._changed.set()

    def _add(self, event: bytes) -> None:
        self._events.append(event)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self, after: int = -1) -> AsyncGenerator[bytes, None]:
        """Its events from the first one behind this number to the last."""
        position = after + 1
        if position:
            yield COMMENT
        while True:
            changed = self._changed
            while position < len(self._events):
                position += 1
                yield self._events[position - 1]
            if self.task.done() or changed.is_set():
                return
            await changed.wait()

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Background:
    def __init__(self) -> None:
        self._runs: dict[str, Run] = {}

    async def start(self, answer: ResponsesAnswer) -> tuple[Response, Run]:
        queued = await answer.queue()
        run = self._runs[answer.id] = Run(answer)
        run.task.add_done_callback(lambda _: self._runs.pop(answer.id, None))
        return queued, run

    def find(self, id: str) -> Run | None:
        """None: it has ended, or another process makes it."""
        return self._runs.get(id)

    async def close(self) -> None:
        """The server stops: what is not complete has failed."""
        for run in list(self._runs.values()):
            run.answer.lose()
            await run.stop()
