"""The configuration in force: flags win over the environment, then the file, then the defaults."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.file import ANY_MODEL, FileContent, checked, config_path, read_file
from runner.config.options import GATEWAY_ONLY, SERVE
from runner.errors import ConfigInvalid
from runner.inspect.sample import PATHS
from runner.sources.name import LATEST, ModelName

DEFAULT = "default"
API_KEY_OPTIONS = ("api_key", "api_key_file")


@dataclass(frozen=True)
class Setting:
    """A value and its origin: a flag, a variable, a file, or `default`."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Config:
    """The configuration in force. `path` is where its file is or would be, `content` what it says."""

    path: Path
    content: FileContent
    serve: Mapping[str, Setting]

    @property
    def aliases(self) -> dict[str, str]:
        """Every alias and the model it stands for in the end."""
        return {alias: self.resolve(alias) for alias in self.content.aliases}

    def resolve(self, name: str) -> str:
        """The model that an alias or a sample's name stands for; any other name unchanged."""
        while name in self.content.aliases:
            name = self.content.aliases[name]
        return PATHS.get(name, name)

    def model(self, name: str) -> dict[str, Any]:
        """The settings of a model: those of [models."*"], overridden by the tables under any of its names."""
        target = _plain(self.resolve(name))
        settings = dict(self.content.models.get(ANY_MODEL, {}))
        for key, table in self.content.models.items():
            if _plain(self.resolve(key)) == target:
                settings |= table
        if "draft" in settings:
            settings["draft"] = self.resolve(settings["draft"])
        return settings

    @property
    def api_keys(self) -> tuple[str, ...]:
        """Every API key that the gateway accepts; none when clients need no key."""
        key, file = (self.serve[name].value for name in API_KEY_OPTIONS)
        return (*([key] if key else []), *(_keys_in(file) if file else []))


def _plain(name: str) -> str:
    """A model's name without its optional parts: the source prefix and Ollama's default tag."""
    return ModelName.parse(name).text.removesuffix(LATEST)


def _keys_in(file: str) -> list[str]:
    try:
        lines = Path(os.path.expanduser(file)).read_text("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise ConfigInvalid(f"cannot read the API keys in {file}: it is not UTF-8 text") from None
    except OSError as error:
        raise ConfigInvalid(f"cannot read the API keys in {file}: {error.strerror or error}") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise ConfigInvalid(f"{file} contains no API keys; write one per line")
    return keys


def load(
    path: str | None = None, environ: Mapping[str, str] | None = None, flags: Mapping[str, Any] | None = None
) -> Config:
    """Read the file at `path` (the --config flag), else the one DIPTYCH_CONFIG names, else the user's.

    `flags` are command-line options by name, None where not given. ConfigInvalid says what is wrong and where.
    """
    variables = os.environ if environ is None else environ
    file, named = config_path(path, variables)
    content = read_file(file, named)
    serve = {name: _setting(name, content, variables, flags or {}) for name in SERVE}
    return Config(file, content, serve)


def _setting(
    name: str, content: FileContent, variables: Mapping[str, str], flags: Mapping[str, Any]
) -> Setting:
    if flags.get(name) is not None:
        return Setting(flags[name], "--" + name.replace("_", "-"))
    variable = f"DIPTYCH_{name.upper()}"
    if variables.get(variable):
        return Setting(checked(variables[variable], SERVE[name].kind, variable, text=True), variable)
    if name in content.serve:
        return Setting(content.serve[name], str(content.path))
    return Setting(SERVE[name].default, DEFAULT)


def model_arguments(settings: Mapping[str, Any]) -> list[str]:
    """A model's settings as arguments of `diptych runner`."""
    flags = {name.replace("_", "-"): value for name, value in settings.items() if name not in GATEWAY_ONLY}
    return [part for flag, value in flags.items() for part in _argument(flag, value)]


def _argument(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    if isinstance(value, tuple):
        return [part for one in value for part in (f"--{flag}", str(one))]
    return [f"--{flag}", str(value)]
