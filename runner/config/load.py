"""What is in force: flags before the environment before the file before the defaults, and where each came from."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.config.file import ANY_MODEL, FileContent, checked, config_path, read_file
from runner.config.options import OF_THE_GATEWAY, SERVE
from runner.sources.name import LATEST, ModelName

DEFAULT = "default"


@dataclass(frozen=True)
class Setting:
    """A value and where it came from: a flag, a variable, a file, or `default`."""

    value: Any
    origin: str


@dataclass(frozen=True)
class Config:
    """The configuration in force. `path` is where its file is, or would be; `content` what it says."""

    path: Path
    content: FileContent
    serve: Mapping[str, Setting]

    @property
    def aliases(self) -> dict[str, str]:
        """Every alias and the model it means in the end."""
        return {alias: self.resolve(alias) for alias in self.content.aliases}

    def resolve(self, name: str) -> str:
        """The model that a name means: an alias's, or the name itself."""
        while name in self.content.aliases:
            name = self.content.aliases[name]
        return name

    def model(self, name: str) -> dict[str, Any]:
        """How a model is to be loaded: what [models."*"] says for all, then what stands under any of its names."""
        meant = _plain(self.resolve(name))
        found = dict(self.content.models.get(ANY_MODEL, {}))
        for key, settings in self.content.models.items():
            if _plain(self.resolve(key)) == meant:
                found |= settings
        return found


def _plain(name: str) -> str:
    """A model's name without what may as well be left out: where it is looked for, and Ollama's usual tag."""
    return ModelName.parse(name).text.removesuffix(LATEST)


def load(
    stated: str | None = None,
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, Any] | None = None,
) -> Config:
    """Read the configuration: the file that `stated` (the --config flag) names, else DIPTYCH_CONFIG, else the user's.

    `flags` are options of the command line by name, None where they were not given. ConfigInvalid says what is wrong and
    where.
    """
    variables = os.environ if environ is None else environ
    path, named = config_path(stated, variables)
    content = read_file(path, named)
    serve = {name: _setting(name, content, variables, flags or {}) for name in SERVE}
    return Config(path, content, serve)


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
    flags = {name.replace("_", "-"): value for name, value in settings.items() if name not in OF_THE_GATEWAY}
    return [part for flag, value in flags.items() for part in _argument(flag, value)]


def _argument(flag: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{flag}" if value else f"--no-{flag}"]
    return [f"--{flag}", str(value)]
