"""The names that clients use, and the models that they mean. Names never become paths unchecked."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from runner.gateway.estimate import Need, need, option
from runner.gateway.settings import Settings
from runner.mode import detect_model_mode
from runner.sources import ModelFiles, ModelMode, find

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

    @property
    def memory_is_ours_to_choose(self) -> bool:
        """Whether nobody said how a picture model is to be held in memory."""
        return self.mode is ModelMode.IMAGE and option(self.options, "memory") in (None, "auto")


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

    def _find(self, name: str) -> Known:
        meant = self._aliases.get(name, name)
        files = find(meant, folders=meant in self._trusted)
        mode = detect_model_mode(files).mode
        options = tuple(self._settings.options(meant))
        return Known(files.name, _argument(files), mode, need(files, mode, options), options)


def _argument(files: ModelFiles) -> str:
    name = str(Path(files.name).absolute()) if files.kind == "folder" else files.name
    return PREFIX[files.kind] + name
