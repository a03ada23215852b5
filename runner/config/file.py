"""The configuration file: where it is and what it says, checked key by key."""

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.config.options import MODEL, SERVE, SOME
from runner.config.values import Kind
from runner.errors import ConfigInvalid
from runner.sources.base import shorten

LARGEST = 1024**2
# An alias must not look like a path, a hub repository or a name with a tag.
ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
ANY_MODEL = "*"
TABLES = ("serve", "aliases", "models")


@dataclass(frozen=True)
class FileContent:
    """The checked content of a file; `path` is None when there is no file."""

    path: Path | None = None
    serve: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def config_path(flag: str | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The path, and whether it was named explicitly: then the file has to exist."""
    named = flag or environ.get("DIPTYCH_CONFIG")
    if named:
        return Path(os.path.expanduser(named)), True
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(base)) / "diptych" / "config.toml", False


def read_file(path: Path, named: bool) -> FileContent:
    """The content of the file. ConfigInvalid names the file, the key, its value and what is allowed."""
    raw = _read(path, named)
    if raw is None:
        return FileContent()
    import tomllib  # slow to import, and needed only with a file

    try:
        content = tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path} is not UTF-8 text (byte {error.start})") from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigInvalid(f"{path} is not valid TOML: {error}") from None
    except RecursionError:
        raise ConfigInvalid(f"{path} is not valid TOML: it is nested too deeply") from None
    _check_names(content, TABLES, f"{path}: ")
    serve = {name: option.kind for name, option in SERVE.items()}
    models = _table(content, "models", path)
    return FileContent(
        path,
        _checked(_table(content, "serve", path), serve, f"{path}: serve."),
        _aliases(_table(content, "aliases", path), path),
        {name: _model(name, _table(models, name, path, "models."), path) for name in models},
    )


def _model(name: str, settings: Mapping[str, Any], path: Path) -> dict[str, Any]:
    kinds = {key: kind for key, kind in MODEL.items() if name != ANY_MODEL or key not in SOME}
    return _checked(settings, kinds, f"{path}: models.{name}.")


def _read(path: Path, named: bool) -> bytes | None:
    try:
        if not path.is_file():
            if not named and not path.exists():
                return None
            fault = "is not a file" if path.exists() else "does not exist"
            raise ConfigInvalid(f"the configuration file {path} {fault}")
        if path.stat().st_size > LARGEST:
            raise ConfigInvalid(
                f"{path} is too large for a configuration file; the limit is {LARGEST:,} bytes"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(
            f"cannot read the configuration file {path}: {error.strerror or error}"
        ) from error


def _table(content: Mapping[str, Any], name: str, path: Path, prefix: str = "") -> dict[str, Any]:
    table = content.get(name, {})
    if not isinstance(table, dict):
        raise ConfigInvalid(
            f"{path}: {prefix}{name} = {_shown(table)} is not allowed; it must be a table, [{prefix}{name}]"
        )
    return table


def _check_names(names: Iterable[str], allowed: Iterable[str], where: str) -> None:
    choices = list(allowed)
    for name in names:
        if name not in choices:
            import difflib  # slow to import, and rarely needed

            near = difflib.get_close_matches(name, choices, 1)
            hint = f"did you mean {near[0]}? The" if near else "the"
            raise ConfigInvalid(f"{where}{name} is not a known key; {hint} keys are {', '.join(choices)}")


def _checked(settings: Mapping[str, Any], kinds: Mapping[str, Kind], where: str) -> dict[str, Any]:
    _check_names(settings, kinds, where)
    return {name: checked(value, kinds[name], f"{where}{name}") for name, value in settings.items()}


def checked(value: Any, kind: Kind, where: str, text: bool = False) -> Any:
    """The value as its kind reads it; ConfigInvalid says what is allowed."""
    try:
        return kind.parse_text(value) if text else kind.parse(value)
    except ValueError:
        allowed = f"a list, each item {kind.allowed}" if kind.many and not text else kind.allowed
        raise ConfigInvalid(f"{where} = {_shown(value)} is not allowed; it must be {allowed}") from None


def _shown(value: Any) -> str:
    """A value as TOML would write it, shortened."""
    if isinstance(value, str):
        return shorten(value)
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:60]}…"


def _aliases(table: Mapping[str, Any], path: Path) -> dict[str, str]:
    for name, target in table.items():
        if not ALIAS.fullmatch(name):
            raise ConfigInvalid(
                f"{path}: {shorten(name)} cannot be an alias; use letters, digits, dots, dashes and underscores"
            )
        if not isinstance(target, str) or not target.strip():
            raise ConfigInvalid(
                f"{path}: aliases.{name} = {_shown(target)} is not allowed; it must be the name of a model"
            )
    for name in table:
        chain = [name]
        while (target := table.get(chain[-1])) is not None:
            if target in chain:
                raise ConfigInvalid(f"{path}: the aliases {' → '.join([*chain, target])} form a circle")
            chain.append(target)
    return dict(table)
