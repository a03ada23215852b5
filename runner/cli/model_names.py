"""Models as commands name them, and the model that is meant when none is named."""

from collections.abc import Sequence

from pipelines.recipe import Recipe
from runner.config import Config
from runner.errors import BadRequest, ModelNotFound
from runner.inspect.identity import identify
from runner.inspect.sample import PATHS, announce, sample
from runner.library import installed
from runner.library.facts import files_of
from runner.library.places import place_of, remember
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.base import shorten
from runner.sources.folder import FolderFiles


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


def model_of(recipe: Recipe, config: Config) -> str | None:
    """The model that a picture was made with, wherever it is now; None where the recipe names none."""
    models = [
        model for model in installed({**PATHS, **config.aliases}).models if model.mode is ModelMode.IMAGE
    ]
    for model in models if recipe.model_hash else ():
        files = files_of(model)
        if model.fault is None and identify(files, files.fetch(ModelMode.IMAGE)).hash == recipe.model_hash:
            return model.name
    if place := place_of(recipe.model_hash):
        return str(place)
    if not recipe.model:
        return None
    name = config.resolve(recipe.model)
    try:
        find(name)
    except ModelNotFound as error:
        raise ModelNotFound(
            f"the picture was made with the model {shorten(recipe.model)}, which is not found by that name; name the model "
            "with --model"
        ) from error
    return name


def remember_folder(files: ModelFiles) -> None:
    """So that a picture's recipe finds the folder that it was made from."""
    if isinstance(files, FolderFiles):
        remember(identify(files, files.fetch(ModelMode.IMAGE)).hash, files.path)
