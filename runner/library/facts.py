"""A model's capabilities, for clients."""

from functools import lru_cache

from runner.inspect.capabilities import text_capabilities
from runner.library.installed import Installed
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.name import ModelName


@lru_cache(256)
def capabilities(model: Installed) -> tuple[str, ...]:
    """Empty for a model that cannot be run, because clients offer what is listed."""
    if model.fault is not None:
        return ()
    return ("image",) if model.mode is ModelMode.IMAGE else tuple(text_capabilities(files_of(model)))


def files_of(model: Installed) -> ModelFiles:
    return find(str(ModelName(model.source, ModelName.parse(model.name).text)))
