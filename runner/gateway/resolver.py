"""The names that clients use, and the models that they mean. Names never become paths unchecked."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import BadRequest, Busy
from runner.gateway.estimate import Need, need, option
from runner.gateway.gpus import cards_for
from runner.gateway.settings import Settings
from runner.inspect.detect import check_runnable
from runner.inspect.image_backend import ImageEngine, choose_engine
from runner.sources import ModelFiles, ModelMode
from runner.sources.find import ask_hub, find_here
from runner.sources.name import ModelName
from runner.threads import run_in_daemon_thread

# A name that was looked up a moment ago still means the same: many requests may wait for one model.
FRESH = 2.0
# Names that the hub is asked for at the same time.
MOST_ASKED = 64


@dataclass(frozen=True)
class ResolvedModel:
    """A model that exists, and how its runner will be called. `argument` is its name with the source forced: no two
    models share it, and the runner looks where we looked and nowhere else."""

    name: str
    argument: str
    mode: ModelMode
    need: Need
    options: tuple[str, ...]
    keep_alive: float | None = None  # what is stated for this model, in seconds
    engine: ImageEngine = ImageEngine.MLX
    replicas: int = 1
    cards: tuple[str, ...] = ()  # one for each replica; none where they share a processor

    @property
    def memory_is_ours_to_choose(self) -> bool:
        """Whether nobody said how a picture model is to be held in memory."""
        ours = self.mode is ModelMode.IMAGE and self.engine is ImageEngine.MLX
        return ours and option(self.options, "memory") in (None, "auto")


class ModelResolver:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._aliases = dict(settings.aliases)
        # What the one who started us named may be a folder; a folder may also be called by its own name.
        self._trusted = {*settings.models, *self._aliases.values()}
        for model in settings.models:
            if "/" in model and Path(model).is_dir():
                self._aliases.setdefault(Path(model).name, model)
        self._known: dict[str, tuple[float, ResolvedModel]] = {}
        self._asking: dict[str, asyncio.Future[ResolvedModel]] = {}
        self._closed: asyncio.Future[None] | None = None

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    async def resolve(self, name: str) -> ResolvedModel:
        """The model that a client's name means. ModelNotFound, ModelNotSupported and the hub's errors say why not."""
        found = self._known.get(name)
        if found is not None and time.monotonic() - found[0] < FRESH:
            return found[1]
        known = await asyncio.to_thread(self._find_here, name) or await self._ask_hub(name)
        self._known = {
            key: entry for key, entry in self._known.items() if time.monotonic() - entry[0] < FRESH
        }
        self._known[name] = (time.monotonic(), known)
        return known

    def arguments(self, name: str) -> list[str]:
        """The arguments that a model of this name would have, by source. Reads nothing and asks nobody."""
        meant = self._aliases.get(name, name)
        model = ModelName.parse(meant)
        folder = meant in self._trusted and model.source in (None, "folder")
        named = [
            ModelName("folder", _absolute(model.text)) if folder else None,
            ModelName("hub", str(model.hub)) if model.hub else None,
            ModelName("ollama", str(model.ollama)) if model.ollama else None,
        ]
        return [str(one) for one in named if one]

    def forget(self) -> None:
        """What is on the disk has changed: look again."""
        self._known.clear()

    def _find_here(self, name: str) -> ResolvedModel | None:
        meant = self._aliases.get(name, name)
        files = find_here(meant, folders=meant in self._trusted)
        return None if files is None else self._described(meant, files)

    async def _ask_hub(self, name: str) -> ResolvedModel:
        """Once for all who ask at the same time. A hub that says nothing keeps nobody from what is here."""
        asking = self._asking.get(name)
        if asking is None:
            if len(self._asking) >= MOST_ASKED:
                raise Busy(f"the hub has yet to answer for {MOST_ASKED} other names", retry_after=10)
            meant = self._aliases.get(name, name)
            work = run_in_daemon_thread(lambda: self._described(meant, ask_hub(meant)))
            asking = self._asking[name] = asyncio.ensure_future(work)
            asking.add_done_callback(lambda done: self._answered(name, done))
        either: list[asyncio.Future[Any]] = [asking, self._closing()]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not asking.done():
            raise Busy("the server is stopping", retry_after=5)
        return asking.result()

    def _answered(self, name: str, asking: "asyncio.Future[ResolvedModel]") -> None:
        del self._asking[name]
        if not asking.cancelled():
            asking.exception()  # those who asked may have left

    def _closing(self) -> "asyncio.Future[None]":
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        return self._closed

    def close(self) -> None:
        """Nobody waits for the hub any more."""
        if not self._closing().done():
            self._closing().set_result(None)

    def _described(self, meant: str, files: ModelFiles) -> ResolvedModel:
        mode, pipeline = check_runnable(files)
        options = tuple(self._settings.options(meant))
        keep_alive = self._settings.keep_alive_of(meant)
        engine, replicas = ImageEngine.MLX, self._replicas(meant, mode)
        if mode is ModelMode.IMAGE:
            engine = choose_engine(files, pipeline, option(options, "engine") or "auto")
        cards = cards_for(replicas, engine)
        needed = need(files, mode, options, engine).times(1 if cards else replicas)
        argument = _argument(files)
        return ResolvedModel(files.name, argument, mode, needed, options, keep_alive, engine, replicas, cards)

    def _replicas(self, meant: str, mode: ModelMode) -> int:
        stated = self._settings.replicas_of(meant)
        if mode is ModelMode.IMAGE:
            return self._settings.replicas if stated is None else stated
        if stated is not None:
            raise BadRequest(f"replicas is for models that make pictures; {meant} makes text")
        return 1


def _argument(files: ModelFiles) -> str:
    name = _absolute(files.name) if files.source == "folder" else files.name
    return str(ModelName(files.source, name))


def _absolute(folder: str) -> str:
    return str(Path(os.path.expanduser(folder)).absolute())
