"""`diptych serve`: the configuration in force, as the gateway's settings."""

import argparse
from typing import Any

from runner import logs
from runner.config import Config, load, model_arguments
from runner.config.keys import KEYS, keys
from runner.config.options import SERVE
from runner.gateway import serve
from runner.gateway.settings import Settings
from runner.library import installed
from runner.sample import announce, sample
from runner.sources import ModelMode


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    flags = {name: getattr(options, name) for name in SERVE}
    config = load(options.config, flags=flags)
    return serve.run(settings(config, tuple(options.model) or _samples(config)))


def _samples(config: Config) -> tuple[str, ...]:
    """The sample's two halves, where there is nothing else on this machine to serve."""
    if installed(config.aliases).models:
        return ()
    announce(ModelMode.IMAGE, "diptych serve")
    return sample(ModelMode.IMAGE), sample(ModelMode.TEXT)


def settings(config: Config, models: tuple[str, ...] = ()) -> Settings:
    """What the gateway is told."""
    value: dict[str, Any] = {
        name: setting.value for name, setting in config.serve.items() if name not in KEYS
    }
    return Settings(
        models=models,
        aliases=config.aliases,
        options=lambda model: model_arguments(config.model(model)),
        keep_alive_of=lambda model: config.model(model).get("keep_alive"),
        keys=keys(config),
        origins=tuple(value.pop("allow_origin")),
        hosts=tuple(value.pop("allow_host")),
        **value,
    )
