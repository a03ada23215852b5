"""`diptych serve`: the configuration in force, as the gateway's settings."""

import argparse
from pathlib import Path
from typing import Any

from runner import logs
from runner.config import Config, load, model_arguments
from runner.config.options import SERVE
from runner.errors import ConfigInvalid
from runner.gateway import serve
from runner.gateway.settings import Settings


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    flags = {name: getattr(options, name) for name in SERVE}
    return serve.run(settings(load(options.config, flags=flags), tuple(options.model)))


def settings(config: Config, models: tuple[str, ...] = ()) -> Settings:
    """What the gateway is told."""
    value: dict[str, Any] = {name: setting.value for name, setting in config.serve.items()}
    return Settings(
        models=models,
        aliases=config.aliases,
        options=lambda model: model_arguments(config.model(model)),
        keys=_keys(value.pop("api_key"), value.pop("api_key_file")),
        origins=tuple(value.pop("allow_origin")),
        hosts=tuple(value.pop("allow_host")),
        **value,
    )


def _keys(key: str | None, file: str | None) -> tuple[str, ...]:
    found = [key] if key else []
    if file:
        try:
            lines = Path(file).expanduser().read_text().splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigInvalid(f"the keys in {file} cannot be read: {error}") from None
        found += [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not found:
            raise ConfigInvalid(f"{file} holds no key; one a line is expected")
    return tuple(found)
