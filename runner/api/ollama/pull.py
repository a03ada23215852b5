"""Ollama's /api/pull: downloads a model from the hub and reports progress."""

import asyncio
import logging
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from typing import Any, Self

from runner.api.ollama.models import ModelCatalog, digest, hub_digest
from runner.errors import Busy, DiptychError, ModelNotFound, ModelNotSupported, RunnerFailed
from runner.gateway.app import Gateway
from runner.library.download import Download, plan_download
from runner.protocol.text import encode
from runner.sources.name import LATEST
from runner.threads import run_in_daemon_thread

log = logging.getLogger("diptych.gateway")

Line = dict[str, Any]
EACH = 0.1  # seconds between two progress lines
MOST_AT_ONCE = 4


class Stopped(DiptychError):
    """All clients that waited for the download have disconnected."""


class Pull:
    """A download in its own thread, shared by all clients that wait for it; it stops when the last one disconnects."""

    def __init__(self, download: Download) -> None:
        self.digest = hub_digest(download.name, download.commit)
        self.total = download.bytes
        self.done = 0
        self.waiting = 0
        self.stopped = False
        self.ended = asyncio.get_running_loop().create_future()
        self._download = download
        self._loop = asyncio.get_running_loop()
        # A daemon thread, so that the gateway can exit during a download.
        threading.Thread(target=self._work, name="pull", daemon=True).start()

    async def lines(self, closing: Callable[[], bool]) -> AsyncGenerator[Line, None]:
        """The number of bytes that have arrived, until the download is complete. Raises its error."""
        reported = -1
        while not self.ended.done():
            if closing():
                raise Busy("the server is stopping; the next pull resumes this one", retry_after=5)
            await asyncio.wait([self.ended], timeout=EACH)
            if self.done != reported:
                reported = self.done
                yield arrived(self.digest, self.total, reported)
        if error := self.ended.result():
            raise error

    def join(self) -> Self:
        self.waiting += 1
        return self

    def leave(self) -> None:
        self.waiting -= 1
        self.stopped = self.stopped or not self.waiting

    def _work(self) -> None:
        error: DiptychError | None = None
        try:
            self._download.run(self._progress)
        except DiptychError as raised:
            error = raised
        except Exception as raised:
            log.exception("pulling %s failed", self._download.name)
            error = RunnerFailed(f"pulling {self._download.name} failed: {raised}")
        with suppress(RuntimeError):  # the gateway has exited meanwhile
            self._loop.call_soon_threadsafe(self.ended.set_result, error)

    def _progress(self, done: int, total: int) -> None:
        if self.stopped:
            raise Stopped("all clients that waited for it have disconnected")
        self.done = done


class Pulls:
    def __init__(self, gateway: Gateway, catalog: ModelCatalog) -> None:
        self._gateway = gateway
        self._catalog = catalog
        self._under_way: dict[str, Pull] = {}

    async def stream(self, name: str) -> AsyncGenerator[bytes, None]:
        async with aclosing(self.lines(name)) as lines:
            async for line in lines:
                yield encode(line) + b"\n"

    async def whole(self, name: str) -> Line:
        async with aclosing(self.lines(name)) as lines:
            return [line async for line in lines][-1]

    async def lines(self, name: str) -> AsyncGenerator[Line, None]:
        here = await self._here(name)
        pull = None if here else await self._pull(self._meant(name))
        try:
            yield {"status": "pulling manifest"}
            if here:
                yield here
            if pull:
                async with aclosing(pull.lines(lambda: self._gateway.pool.closing)) as lines:
                    async for line in lines:
                        yield line
        finally:
            if pull:
                pull.leave()
        yield {"status": "verifying sha256 digest"}
        yield {"status": "writing manifest"}
        yield {"status": "success"}

    def _meant(self, name: str) -> str:
        aliases = self._gateway.resolver.aliases
        bare = name.removesuffix(LATEST)
        return aliases.get(name) or aliases.get(bare) or (bare if "/" in bare else name)

    async def _here(self, name: str) -> Line | None:
        """The final line for an installed model that is not from the hub; those from the hub are checked for updates."""
        try:
            model = await self._catalog.find(name)
        except ModelNotFound:
            return None
        if model.source == "hub":
            return None
        if model.fault is not None:
            raise ModelNotSupported(f"{model.name} is on this machine, but cannot be run: {model.fault}")
        return arrived(digest(model), model.bytes, model.bytes)

    async def _pull(self, name: str) -> Pull:
        download = await run_in_daemon_thread(lambda: plan_download(name, folders=False))
        if download.fault:
            raise ModelNotSupported(f"{download.files.place} cannot be run: {download.fault}")
        key = download.files.place
        while (pull := self._under_way.get(key)) is not None and pull.stopped:
            await asyncio.wait([pull.ended])
        if pull is None:
            if len(self._under_way) >= MOST_AT_ONCE:
                raise Busy(
                    f"{MOST_AT_ONCE} models are being pulled; try again when one has arrived", retry_after=30
                )
            pull = self._under_way[key] = Pull(download)
            pull.ended.add_done_callback(lambda _: self._over(key))
        return pull.join()

    def _over(self, key: str) -> None:
        del self._under_way[key]
        self._gateway.resolver.forget()


def arrived(digest: str, total: int, done: int) -> Line:
    """Ollama sends a line for each layer, Diptych one for the whole model: clients draw a bar for each digest."""
    return {
        "status": f"pulling {digest[:12]}",
        "digest": f"sha256:{digest}",
        "total": total,
        "completed": done,
    }
