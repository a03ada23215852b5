"""`diptych serve`: the configuration in force, as the gateway's settings."""

import argparse
from typing import Any

from runner import logs
from runner.config import Config, load, model_arguments
from runner.config.keys import KEYS, keys
from runner.config.options import SERVE
from runner.gateway import serve
from runner.gateway.settings import Settings


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    flags = {name: getattr(options, name) for name in SERVE}
    return serve.run(settings(load(options.config, flags=flags), tuple(options.model)))


def settings(config: Config, models: tuple[str, ...] = ()) -> Settings:
    """What the gateway is told."""
    value: dict[str, Any] = {
        name: setting.value for name, setting in config.serve.items() if name not in KEYS
    }
    return Settings(
        models=models,
        aliases=config.aliases,
        options=lambda model: model_arguments(config.model(model)),
        keys=keys(config),
        origins=tuple(value.pop("allow_origin")),
        hosts=tuple(value.pop("allow_host")),
        **value,
    )
