"""`diptych serve`: the gateway, with the settings of the configuration in force."""

import argparse
import sys
from typing import Any

from runner import logs
from runner.api.registry import APIS
from runner.config import Config, load, model_arguments
from runner.config.load import API_KEY_OPTIONS
from runner.config.options import SERVE
from runner.gateway import serve
from runner.gateway.settings import Settings
from runner.inspect.sample import NAMES, announce, sample
from runner.library import installed
from runner.sources import ModelMode

# Options of [serve] that are its runners', and that a model's own entry overrides.
SPECULATION = ("speculate", "speculate_tokens")


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    config = load(options.config, flags={name: getattr(options, name) for name in SERVE})
    models = tuple(_given(name, config) for name in options.model)
    return serve.run(settings(config, models or _sample_if_empty(config)), APIS)


def _given(name: str, config: Config) -> str:
    """A sample model keeps its name, by which clients ask for it."""
    is_sample = name in NAMES.values() and name not in config.aliases
    return name if is_sample else config.resolve(name)


def _sample_if_empty(config: Config) -> tuple[str, ...]:
    """The two sample models, if there is no other model on this machine."""
    if installed(config.aliases).models:
        return ()
    announce(ModelMode.IMAGE, "diptych serve")
    print(f"{NAMES[ModelMode.IMAGE]} draws, {NAMES[ModelMode.TEXT]} chats", file=sys.stderr)
    return tuple(NAMES.values())


def settings(config: Config, models: tuple[str, ...] = ()) -> Settings:
    """The gateway's settings. The sample models go by their names if these are among `models`."""
    samples = {name: sample(mode) for mode, name in NAMES.items() if name in models}
    values: dict[str, Any] = {
        name: setting.value for name, setting in config.serve.items() if name not in API_KEY_OPTIONS
    }
    speculate = {name: value for name in SPECULATION if (value := values.pop(name)) is not None}
    return Settings(
        models=models,
        aliases=samples | config.aliases,
        options=lambda model: model_arguments(speculate | config.model(model)),
        keep_alive_of=lambda model: config.model(model).get("keep_alive"),
        replicas_of=lambda model: config.model(model).get("replicas"),
        keys=config.api_keys,
        origins=tuple(values.pop("allow_origin")),
        hosts=tuple(values.pop("allow_host")),
        **values,
    )
