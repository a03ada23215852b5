"""Models as commands name them, and the model that is meant when none is named."""

from collections.abc import Sequence

from runner.config import Config
from runner.errors import BadRequest
from runner.inspect.sample import announce, sample
from runner.library import installed
from runner.sources import ModelMode


def shown(name: str, aliases: Sequence[str]) -> str:
    """A model's name with its aliases; a folder goes by these alone."""
    if not aliases:
        return name
    return ", ".join(aliases) if name.startswith("/") else f"{name} ({', '.join(aliases)})"


def only_model(config: Config, mode: ModelMode, how: str) -> str:
    """The model to use when none is named: the only one that is installed, or the sample where there is none. `how` is
    what a name is written after."""
    names = [
        model.aliases[0] if model.source == "folder" and model.aliases else model.name
        for model in installed(config.aliases).models
        if model.mode is mode and model.fault is None
    ]
    if not names:
        announce(mode, how)
        return sample(mode)
    if len(names) > 1:
        raise BadRequest(f"no model was given; choose one of {', '.join(names[:20])}")
    return names[0]
