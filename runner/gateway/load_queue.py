"""The queue of those who wait for a model, in the order they came."""

import asyncio
import time
from collections.abc import Callable

from runner.errors import Busy, DiptychError, RequestCancelled
from runner.gateway.lease import Lease
from runner.gateway.resolver import ResolvedModel
from runner.process.supervisor import Report


class LoadTicket:
    def __init__(self, model: ResolvedModel, keep_alive: float | None, on_progress: Report, id: str) -> None:
        self.model = model
        self.keep_alive = keep_alive
        self.on_progress = on_progress
        self.id = id
        self.since = time.monotonic()
        self.lease: asyncio.Future[Lease] = asyncio.get_running_loop().create_future()

    @property
    def waits(self) -> bool:
        return not self.lease.done()


class LoadQueue:
    def __init__(self, most: int) -> None:
        self._most = most
        self._tickets: dict[LoadTicket, None] = {}

    def add(self, model: ResolvedModel, keep_alive: float | None, on_progress: Report, id: str) -> LoadTicket:
        """A place at the end; Busy when the queue is full."""
        if len(self._tickets) >= self._most:
            raise Busy(
                f"the queue is full ({self._most} requests wait for their models)",
                retry_after=self._patience(),
            )
        ticket = LoadTicket(model, keep_alive, on_progress, id)
        self._tickets[ticket] = None
        return ticket

    def _patience(self) -> int:
        """Longer, the more models are waited for and the longer the queue."""
        models = {ticket.model.argument for ticket in self._tickets}
        return 2 * len(models) + len(self._tickets) // 64

    def remove(self, ticket: LoadTicket) -> None:
        self._tickets.pop(ticket, None)

    def __len__(self) -> int:
        return len(self._tickets)

    def first(self, counts: Callable[[ResolvedModel], bool]) -> LoadTicket | None:
        """The one who has waited longest, of those whose model counts."""
        return next((ticket for ticket in self._tickets if ticket.waits and counts(ticket.model)), None)

    def of(self, model: ResolvedModel) -> list[LoadTicket]:
        """Those who wait for this model."""
        return [
            ticket for ticket in self._tickets if ticket.model.argument == model.argument and ticket.waits
        ]

    def tell(self, model: ResolvedModel, progress: float) -> None:
        for ticket in self.of(model):
            ticket.on_progress(progress)

    def refuse(self, model: ResolvedModel, error: DiptychError) -> None:
        for ticket in self.of(model):
            ticket.lease.set_exception(error)

    def refuse_all(self, error: DiptychError) -> None:
        for ticket in list(self._tickets):
            if ticket.waits:
                ticket.lease.set_exception(error)

    def cancel(self, id: str) -> bool:
        found = [ticket for ticket in self._tickets if ticket.id == id and ticket.waits]
        for ticket in found:
            ticket.lease.set_exception(RequestCancelled("the request was cancelled"))
        return bool(found)
