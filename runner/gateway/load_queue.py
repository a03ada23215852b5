"""The queue of requests that wait for their model, first come, first served."""

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
    def waiting(self) -> bool:
        return not self.lease.done()


class LoadQueue:
    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._tickets: dict[LoadTicket, None] = {}

    def add(self, model: ResolvedModel, keep_alive: float | None, on_progress: Report, id: str) -> LoadTicket:
        """A ticket at the end; Busy when the queue is full."""
        if len(self._tickets) >= self._limit:
            raise Busy(
                f"the queue is full ({self._limit} requests wait for their models)",
                retry_after=self._retry_after(),
            )
        ticket = LoadTicket(model, keep_alive, on_progress, id)
        self._tickets[ticket] = None
        return ticket

    def _retry_after(self) -> int:
        """Grows with the models to be loaded and the length of the queue."""
        models = {ticket.model.argument for ticket in self._tickets}
        return 2 * len(models) + len(self._tickets) // 64

    def remove(self, ticket: LoadTicket) -> None:
        self._tickets.pop(ticket, None)

    def __len__(self) -> int:
        return len(self._tickets)

    def first(self, predicate: Callable[[ResolvedModel], bool]) -> LoadTicket | None:
        """The oldest ticket whose model satisfies the predicate."""
        return next((ticket for ticket in self._tickets if ticket.waiting and predicate(ticket.model)), None)

    def of(self, model: ResolvedModel) -> list[LoadTicket]:
        return [
            ticket for ticket in self._tickets if ticket.model.argument == model.argument and ticket.waiting
        ]

    def report_progress(self, model: ResolvedModel, progress: float) -> None:
        for ticket in self.of(model):
            ticket.on_progress(progress)

    def fail(self, model: ResolvedModel, error: DiptychError) -> None:
        for ticket in self.of(model):
            ticket.lease.set_exception(error)

    def fail_all(self, error: DiptychError) -> None:
        for ticket in list(self._tickets):
            if ticket.waiting:
                ticket.lease.set_exception(error)

    def cancel(self, id: str) -> bool:
        tickets = [ticket for ticket in self._tickets if ticket.id == id and ticket.waiting]
        for ticket in tickets:
            ticket.lease.set_exception(RequestCancelled("the request was cancelled"))
        return bool(tickets)
