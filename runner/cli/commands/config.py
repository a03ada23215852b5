"""`diptych config`: the configuration in force, and where each value comes from."""

import argparse
import json
from collections.abc import Mapping
from typing import Any

from runner.config import Config, Setting
from runner.config.file import ALIAS
from runner.config.options import SERVE
from runner.terminal import print_json

HIDDEN = "(set)"


def run(options: argparse.Namespace) -> int:
    config: Config = options.configuration
    if options.json:
        print_json(as_json(config))
        return 0
    state = "" if config.content.path else " (does not exist)"
    print(f"file: {config.path}{state}\n")
    print("[serve]")
    _print({name: _shown(name, setting) for name, setting in config.serve.items()}, config)
    if config.content.aliases:
        print("\n[aliases]")
        _print(dict(config.content.aliases))
    for name, settings in config.content.models.items():
        print(f"\n[models.{_key(name)}]")
        _print(settings)
    return 0


def as_json(config: Config) -> dict[str, Any]:
    """The same for programs. API keys are never shown."""
    return {
        "file": str(config.path),
        "present": config.content.path is not None,
        "serve": {
            name: {"value": _shown(name, setting), "origin": setting.origin}
            for name, setting in config.serve.items()
        },
        "aliases": dict(config.content.aliases),
        "models": {name: dict(settings) for name, settings in config.content.models.items()},
    }


def _shown(name: str, setting: Setting) -> Any:
    return HIDDEN if SERVE[name].secret and setting.value else setting.value


def _print(values: Mapping[str, Any], config: Config | None = None) -> None:
    """Print values as the file would have them; with `config`, their origins too."""
    lines = {name: f"{name} = {toml(value)}" for name, value in values.items()}
    size = min(max(map(len, lines.values()), default=0), 50)
    for name, line in lines.items():
        print(f"{line:<{size}}  # {_origin(config, name)}" if config else line)


def _origin(config: Config, name: str) -> str:
    origin = config.serve[name].origin
    return "file" if origin == str(config.path) else origin


def _key(name: str) -> str:
    return name if ALIAS.fullmatch(name) and "." not in name else json.dumps(name, ensure_ascii=False)


def toml(value: Any) -> str:
    """A value as TOML writes it. TOML cannot express one that is not set."""
    if value is None:
        return "(not set)"
    return json.dumps(list(value) if isinstance(value, tuple) else value, ensure_ascii=False)
