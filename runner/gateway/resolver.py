"""Resolves the names that clients use to models. A name never becomes a path unchecked."""

import asyncio
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from runner.errors import BadRequest, Busy, ModelNotFound
from runner.gateway.estimate import Need, need, option
from runner.gateway.gpus import cards_for
from runner.gateway.places import Place, about
from runner.gateway.settings import Settings
from runner.inspect.detect import check_runnable
from runner.inspect.encoder import why_silent
from runner.inspect.image_backend import ImageEngine
from runner.inspect.sight import READS_TEXT, SPREAD, why_blind
from runner.sources import ModelFiles, ModelMode
from runner.sources.find import ask_hub, find_here
from runner.sources.name import ModelName
from runner.threads import run_in_daemon_thread

# How long a resolved name is cached: many requests may arrive for one model.
CACHE_S = 2.0
# Names looked up at the hub at the same time.
MAX_HUB_LOOKUPS = 64


@dataclass(frozen=True)
class ResolvedModel:
    """A model that exists, and the options of its runner. `argument` is its name with the source forced: it is unique,
    and the runner looks in this source only."""

    name: str
    argument: str
    mode: ModelMode
    need: Need
    options: tuple[str, ...]
    keep_alive: float | None = None  # seconds, as configured for this model
    engine: ImageEngine = ImageEngine.MLX
    replicas: int = 1
    blind: str = READS_TEXT  # why it sees no pictures in chats; "" if it does
    silent: str = ""  # why it writes no text
    cards: tuple[str, ...] = ()  # one for each replica; empty where they share a processor
    addresses: tuple[str, ...] = ()  # of gateways on other machines that serve it too; "local" for this one
    called: str = ""  # its name there

    @property
    def chooses_memory_mode(self) -> bool:
        """Whether it is ours to choose how a picture model is held in memory: no option says so."""
        has_modes = self.mode is ModelMode.IMAGE and self.engine is ImageEngine.MLX
        return has_modes and option(self.options, "memory") in (None, "auto")


LATEST = ":latest"
LOCAL = "local"  # among addresses: this machine


class ModelResolver:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._aliases = dict(settings.aliases)
        # Names given at the start may be folders; such a folder also has its last component as a name.
        self._trusted = {*settings.models, *self._aliases.values()}
        for model in settings.models:
            if "/" in model and Path(model).is_dir():
                self._aliases.setdefault(Path(model).name, model)
        self._cache: dict[str, tuple[float, ResolvedModel]] = {}
        self._hub_lookups: dict[str, asyncio.Future[ResolvedModel]] = {}
        self._closed: asyncio.Future[None] | None = None

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    async def resolve(self, name: str) -> ResolvedModel:
        """The model with this name; otherwise ModelNotFound, ModelNotSupported, or an error of the hub."""
        cached = self._cache.get(name)
        if cached is not None and time.monotonic() - cached[0] < CACHE_S:
            return cached[1]
        target = self._target(name)
        addresses = self._addresses(target)
        if addresses and LOCAL not in addresses:
            model = await self._elsewhere(target, _called(name, target), addresses)
        else:
            found = await asyncio.to_thread(self._find_here, name) or await self._find_on_hub(name)
            model = replace(found, addresses=addresses, called=_called(name, target))
        now = time.monotonic()
        self._cache = {key: entry for key, entry in self._cache.items() if now - entry[0] < CACHE_S}
        self._cache[name] = (now, model)
        return model

    def arguments(self, name: str) -> list[str]:
        """The `argument` that a model of this name would have in each source. Reads nothing."""
        target = self._target(name)
        addresses = self._addresses(target)
        if addresses and LOCAL not in addresses:
            return [_argument_elsewhere(target)]
        model = ModelName.parse(target)
        folder = target in self._trusted and model.source in (None, "folder")
        candidates = [
            ModelName("folder", _absolute(model.text)) if folder else None,
            ModelName("hub", str(model.hub)) if model.hub else None,
            ModelName("ollama", str(model.ollama)) if model.ollama else None,
        ]
        return [str(candidate) for candidate in candidates if candidate]

    def forget(self) -> None:
        """Call after changes on disk."""
        self._cache.clear()

    def close(self) -> None:
        """Fail the requests that wait for the hub."""
        if not self._closing().done():
            self._closing().set_result(None)

    def _target(self, name: str) -> str:
        """What a name stands for. Clients of Ollama add a tag to any name."""
        return self._aliases.get(name) or self._aliases.get(name.removesuffix(LATEST), name)

    def _addresses(self, target: str) -> tuple[str, ...]:
        configured = self._settings.replicas_of(target)
        return configured if isinstance(configured, tuple) else ()

    async def _elsewhere(self, target: str, called: str, addresses: tuple[str, ...]) -> ResolvedModel:
        """A model that only other machines serve: it needs nothing of this one."""
        places = [Place.parse(address, called) for address in addresses]
        said = await about(places, self._settings.replica_key)
        return ResolvedModel(
            name=target,
            argument=_argument_elsewhere(target),
            mode=said.mode,
            need=Need(0, 0, 0, 0),
            options=(),
            keep_alive=self._settings.keep_alive_of(target),
            blind="" if said.sees else READS_TEXT,
            addresses=addresses,
            called=called,
        )

    def _find_here(self, name: str) -> ResolvedModel | None:
        target = self._target(name)
        try:
            files = find_here(target, folders=target in self._trusted)
        except ModelNotFound:
            if not target.endswith(LATEST) or "/" not in target:
                raise
            target = target.removesuffix(LATEST)
            files = find_here(target)
        return None if files is None else self._describe(target, files)

    async def _find_on_hub(self, name: str) -> ResolvedModel:
        """One lookup for concurrent requests. A hub that does not respond delays no local models."""
        lookup = self._hub_lookups.get(name)
        if lookup is None:
            if len(self._hub_lookups) >= MAX_HUB_LOOKUPS:
                raise Busy(f"the hub has not yet responded for {MAX_HUB_LOOKUPS} other names", retry_after=10)
            target = self._target(name)
            work = run_in_daemon_thread(lambda: self._describe(target, ask_hub(target)))
            lookup = self._hub_lookups[name] = asyncio.ensure_future(work)
            lookup.add_done_callback(lambda done: self._finish_lookup(name, done))
        either: list[asyncio.Future[Any]] = [lookup, self._closing()]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        if not lookup.done():
            raise Busy("the server is stopping", retry_after=5)
        return lookup.result()

    def _finish_lookup(self, name: str, lookup: "asyncio.Future[ResolvedModel]") -> None:
        del self._hub_lookups[name]
        if not lookup.cancelled():
            lookup.exception()  # marks it as retrieved: all clients may have left

    def _closing(self) -> "asyncio.Future[None]":
        if self._closed is None:
            self._closed = asyncio.get_running_loop().create_future()
        return self._closed

    def _describe(self, target: str, files: ModelFiles) -> ResolvedModel:
        settings = self._settings
        folders = {
            "--loras": settings.loras,
            "--controlnets": settings.controlnets,
            "--tiny-vae": settings.tiny_vae,
        }
        named = (word for flag, folder in folders.items() if folder for word in (flag, folder))
        options = (*named, *settings.options(target))
        mode, _, engine = check_runnable(files, option(options, "engine") or "auto")
        replicas = self._replicas(target, mode)
        cards = cards_for(replicas, engine)
        is_text = mode is ModelMode.TEXT
        return ResolvedModel(
            name=files.name,
            argument=_argument(files),
            mode=mode,
            need=need(files, mode, options, engine).times(1 if cards else replicas),
            options=options,
            keep_alive=self._settings.keep_alive_of(target),
            engine=engine,
            replicas=replicas,
            blind=_why_blind(files, options) if is_text else READS_TEXT,
            silent=why_silent(files) if is_text else "",
            cards=cards,
        )

    def _replicas(self, target: str, mode: ModelMode) -> int:
        configured = self._settings.replicas_of(target)
        if isinstance(configured, tuple):
            return 1
        if mode is ModelMode.IMAGE:
            return self._settings.replicas if configured is None else configured
        if configured is not None:
            raise BadRequest(f"replicas is for models that make pictures; {target} makes text")
        return 1


def _why_blind(files: ModelFiles, options: tuple[str, ...]) -> str:
    spread = option(options, "tensor-parallel") not in (None, "1")
    return SPREAD if spread else why_blind(files)


def _argument(files: ModelFiles) -> str:
    name = _absolute(files.name) if files.source == "folder" else files.name
    return str(ModelName(files.source, name))


def _argument_elsewhere(target: str) -> str:
    """It differs from that of a model of this name on this machine."""
    return f"replicas:{target}"


def _called(name: str, target: str) -> str:
    """A model's name on other machines, where a folder of this one means nothing."""
    return name if ModelName.parse(target).is_path else target


def _absolute(folder: str) -> str:
    return str(Path(os.path.expanduser(folder)).absolute())
