"""`diptych serve`: the configuration in force, as the gateway's settings."""

import argparse
import sys
from typing import Any

from runner import logs
from runner.api.registry import APIS
from runner.config import Config, load, model_arguments
from runner.config.keys import KEYS, keys
from runner.config.options import SERVE
from runner.gateway import serve
from runner.gateway.settings import Settings
from runner.inspect.sample import NAMES, announce, sample
from runner.library import installed
from runner.sources import ModelMode


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    flags = {name: getattr(options, name) for name in SERVE}
    config = load(options.config, flags=flags)
    return serve.run(settings(config, tuple(options.model) or _when_none(config)), APIS)


def _when_none(config: Config) -> tuple[str, ...]:
    """The sample's two halves, where there is nothing else on this machine to serve."""
    if installed(config.aliases).models:
        return ()
    announce(ModelMode.IMAGE, "diptych serve")
    print(f"its names: {NAMES[ModelMode.IMAGE]} draws, {NAMES[ModelMode.TEXT]} talks", file=sys.stderr)
    return tuple(NAMES.values())


def settings(config: Config, models: tuple[str, ...] = ()) -> Settings:
    """What the gateway is told. The sample goes by its names, where it is wanted."""
    samples = {name: sample(mode) for mode, name in NAMES.items() if name in models}
    value: dict[str, Any] = {
        name: setting.value for name, setting in config.serve.items() if name not in KEYS
    }
    return Settings(
        models=models,
        aliases=samples | config.aliases,
        options=lambda model: model_arguments(config.model(model)),
        keep_alive_of=lambda model: config.model(model).get("keep_alive"),
        replicas_of=lambda model: config.model(model).get("replicas"),
        keys=keys(config),
        origins=tuple(value.pop("allow_origin")),
        hosts=tuple(value.pop("allow_host")),
        **value,
    )
