"""Downloads that go on without the client that asked for them: watched, paused, resumed, cancelled."""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Literal

from msgspec import Struct

from runner.api.ollama.pull import MOST_AT_ONCE, Pull, Stopped
from runner.errors import BadRequest, Busy, DiptychError, ModelNotFound, ModelNotSupported, NotStored
from runner.library.download import Download, plan_download
from runner.library.removal import plan_removal
from runner.sources.hub import repo_folder
from runner.sources.name import ModelName
from runner.threads import run_in_daemon_thread

State = Literal["looking", "downloading", "paused", "done", "failed", "cancelled"]
UNDER_WAY = ("looking", "downloading")
REMEMBERED = 20


class DownloadState(Struct, frozen=True):
    """`done` of `total` bytes; `rate` in bytes a second since it was begun or resumed."""

    model: str
    state: State
    done: int = 0
    total: int = 0
    rate: float = 0.0
    error: str = ""


class Transfer:
    """One model on its way, through its pauses."""

    def __init__(self, name: str, force: bool, arrived: Callable[[], None]) -> None:
        self.name = name
        self._force = force
        self._arrived = arrived
        self._state: State = "looking"
        self._error = ""
        self._pull: Pull | None = None
        self._began = time.monotonic()
        self._had = 0
        self._task = asyncio.create_task(self._run())

    @property
    def under_way(self) -> bool:
        return self._state in UNDER_WAY

    @property
    def state(self) -> DownloadState:
        pull = self._pull
        if pull is None:
            return DownloadState(self.name, self._state, error=self._error)
        seconds = time.monotonic() - self._began
        if self._had == 0 and pull.done:
            self._had = pull.done  # of an earlier download, or the first bytes
        rate = (pull.done - self._had) / seconds if self._state == "downloading" and seconds > 0 else 0.0
        done = pull.total if self._state == "done" else pull.done
        return DownloadState(self.name, self._state, done, pull.total, max(0.0, rate), self._error)

    async def _run(self) -> None:
        try:
            download = await run_in_daemon_thread(lambda: _plan(self.name, self._force))
            if self._state != "looking":
                return  # paused or cancelled meanwhile
            self._pull = Pull(download).join()
            self._state = "downloading"
            if error := await self._pull.ended:
                raise error
            self._state = "done"
            self._arrived()
        except Stopped:
            self._state = self._state if self._state in ("paused", "cancelled") else "failed"
        except DiptychError as error:
            self._state, self._error = "failed", error.message

    async def pause(self) -> None:
        """What has arrived stays."""
        if self.under_way:
            await self._end("paused")

    def resume(self, force: bool) -> None:
        if not self.under_way:
            self._force, self._state, self._error = force, "looking", ""
            self._began, self._had, self._pull = time.monotonic(), 0, None
            self._task = asyncio.create_task(self._run())

    async def cancel(self) -> None:
        """What has arrived is removed."""
        if self._state == "done":
            raise BadRequest(f"{self.name} has arrived; delete it instead")
        await self._end("cancelled")
        await run_in_daemon_thread(lambda: _remove_partial(self.name))
        self._arrived()

    async def _end(self, state: State) -> None:
        self._state = state
        if self._pull is not None and not self._pull.ended.done():
            self._pull.leave()
            await asyncio.wait([self._pull.ended])

    async def close(self) -> None:
        if self._pull is not None and self.under_way:
            self._pull.leave()
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


class Downloads:
    def __init__(self, arrived: Callable[[], None]) -> None:
        """`arrived` is called when models on this machine have changed."""
        self._arrived = arrived
        self._transfers: dict[str, Transfer] = {}

    @property
    def states(self) -> list[DownloadState]:
        return [transfer.state for transfer in self._transfers.values()]

    def start(self, name: str, force: bool) -> DownloadState:
        """Begin, or resume."""
        if ModelName.parse(name).hub is None:
            raise BadRequest(
                f"model: {name[:80]!r} is not a hub repo; owner/name is needed, or owner/name:Q4_K_M for a GGUF"
            )
        known = self._transfers.get(name)
        if known is not None and known.under_way:
            return known.state
        if sum(transfer.under_way for transfer in self._transfers.values()) >= MOST_AT_ONCE:
            raise Busy(
                f"{MOST_AT_ONCE} models are being downloaded; try again when one has arrived", retry_after=30
            )
        if known is not None:
            known.resume(force)
        else:
            self._forget()
            known = self._transfers[name] = Transfer(name, force, self._arrived)
        return known.state

    async def pause(self, name: str) -> DownloadState:
        transfer = self._find(name)
        await transfer.pause()
        return transfer.state

    async def cancel(self, name: str) -> DownloadState:
        transfer = self._find(name)
        await transfer.cancel()
        del self._transfers[name]
        return transfer.state

    async def close(self) -> None:
        """What has arrived stays, and the next download continues from there."""
        await asyncio.gather(*(transfer.close() for transfer in self._transfers.values()))

    def _find(self, name: str) -> Transfer:
        if name not in self._transfers:
            raise NotStored(f"{name[:80]!r} is not being downloaded")
        return self._transfers[name]

    def _forget(self) -> None:
        over = [name for name, one in self._transfers.items() if one.state.state in ("done", "failed")]
        for name in over[: max(0, len(self._transfers) - REMEMBERED + 1)]:
            del self._transfers[name]


def _plan(name: str, force: bool) -> Download:
    download = plan_download(name, folders=False)
    if download.fault and not force:
        raise ModelNotSupported(f"{download.files.place} cannot be run: {download.fault}")
    return download


def _remove_partial(name: str) -> None:
    """The unfinished files of a repo, and the model if that is not complete."""
    hub = ModelName.parse(name).hub
    if hub is None:
        return
    for file in repo_folder(hub).glob("blobs/*.incomplete"):
        file.unlink(missing_ok=True)
    with suppress(ModelNotFound, ModelNotSupported):
        removal = plan_removal(name, folders=False)
        if removal.model.fault is not None:
            removal.run()
