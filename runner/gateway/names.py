"""The names that clients use, and the models that they mean. Names never become paths unchecked."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path

from runner.errors import BadRequest
from runner.gateway.cards import cards_for
from runner.gateway.estimate import Need, need, option
from runner.gateway.settings import Settings
from runner.image_engine import ImageEngine, choose_engine
from runner.mode import detect_model_mode
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.hub import parse_hub_name
from runner.sources.ollama_store import parse_ollama_name

# A name that was looked up a moment ago still means the same: many requests may wait for one model.
FRESH = 2.0
PREFIX = {"folder": "folder:", "hub": "hf:", "ollama": "ollama:"}


@dataclass(frozen=True)
class Known:
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


class Names:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._aliases = dict(settings.aliases)
        # What the one who started us named may be a folder; a folder may also be called by its own name.
        self._trusted = {*settings.models, *self._aliases.values()}
        for model in settings.models:
            if "/" in model and Path(model).is_dir():
                self._aliases.setdefault(Path(model).name, model)
        self._known: dict[str, tuple[float, Known]] = {}

    @property
    def aliases(self) -> dict[str, str]:
        return dict(self._aliases)

    async def look_up(self, name: str) -> Known:
        """The model that a client's name means. ModelNotFound, ModelNotSupported and the hub's errors say why not."""
        found = self._known.get(name)
        if found is not None and time.monotonic() - found[0] < FRESH:
            return found[1]
        known = await asyncio.to_thread(self._find, name)
        self._known = {
            key: entry for key, entry in self._known.items() if time.monotonic() - entry[0] < FRESH
        }
        self._known[name] = (time.monotonic(), known)
        return known

    def arguments(self, name: str) -> list[str]:
        """The arguments that a model of this name would have, by source. Reads nothing and asks nobody."""
        meant = self._aliases.get(name, name)
        prefix, _, rest = meant.partition(":")
        forced = f"{prefix}:" in PREFIX.values()
        plain = rest if forced else meant
        hub = parse_hub_name(plain, forced=prefix == "hf") if not forced or prefix == "hf" else None
        ollama = parse_ollama_name(plain) if not forced or prefix == "ollama" else None
        found = [_absolute(plain)] if meant in self._trusted and prefix not in ("hf", "ollama") else []
        return [
            *(PREFIX["folder"] + folder for folder in found),
            *([PREFIX["hub"] + str(hub)] if hub else []),
            *([PREFIX["ollama"] + str(ollama)] if ollama else []),
        ]

    def forget(self) -> None:
        """What is on the disk has changed: look again."""
        self._known.clear()

    def _find(self, name: str) -> Known:
        meant = self._aliases.get(name, name)
        files = find(meant, folders=meant in self._trusted)
        mode, pipeline = detect_model_mode(files)
        options = tuple(self._settings.options(meant))
        keep_alive = self._settings.keep_alive_of(meant)
        engine, replicas = ImageEngine.MLX, self._replicas(meant, mode)
        if mode is ModelMode.IMAGE:
            engine = choose_engine(files, pipeline, option(options, "engine") or "auto")
        cards = cards_for(replicas, engine)
        needed = need(files, mode, options, engine).times(1 if cards else replicas)
        argument = _argument(files)
        return Known(files.name, argument, mode, needed, options, keep_alive, engine, replicas, cards)

    def _replicas(self, meant: str, mode: ModelMode) -> int:
        stated = self._settings.replicas_of(meant)
        if mode is ModelMode.IMAGE:
            return self._settings.replicas if stated is None else stated
        if stated is not None:
            raise BadRequest(f"replicas is for models that make pictures; {meant} makes text")
        return 1


def _argument(files: ModelFiles) -> str:
    return PREFIX[files.kind] + (_absolute(files.name) if files.kind == "folder" else files.name)


def _absolute(folder: str) -> str:
    return str(Path(os.path.expanduser(folder)).absolute())
