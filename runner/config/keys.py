"""The API keys that the configuration names, one of them or a file of them."""

import os
from pathlib import Path

from runner.config.load import Config
from runner.errors import ConfigInvalid

KEYS = ("api_key", "api_key_file")


def keys(config: Config) -> tuple[str, ...]:
    """Every key that the gateway takes; none when everybody on this machine may call."""
    key, file = (config.serve[name].value for name in KEYS)
    return (*([key] if key else []), *(_lines(file) if file else []))


def _lines(file: str) -> list[str]:
    try:
        lines = Path(os.path.expanduser(file)).read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigInvalid(f"the keys in {file} cannot be read: {error}") from None
    found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not found:
        raise ConfigInvalid(f"{file} holds no key; one a line is expected")
    return found
