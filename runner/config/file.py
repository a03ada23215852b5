"""The configuration file: where it is, and what it says, checked key by key."""

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
# What an alias may be called: nothing that could be a path, a hub repo or a name with a tag.
ALIAS = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
ANY_MODEL = "*"
TABLES = ("serve", "aliases", "models")


@dataclass(frozen=True)
class FileContent:
    """What a file says; `path` is None when there is no file."""

    path: Path | None = None
    serve: Mapping[str, Any] = field(default_factory=dict)
    aliases: Mapping[str, str] = field(default_factory=dict)
    models: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def config_path(stated: str | None, environ: Mapping[str, str]) -> tuple[Path, bool]:
    """The file, and whether somebody named it: then it has to be there."""
    named = stated or environ.get("DIPTYCH_CONFIG")
    if named:
        return Path(os.path.expanduser(named)), True
    base = environ.get("XDG_CONFIG_HOME") or "~/.config"
    return Path(os.path.expanduser(base)) / "diptych" / "config.toml", False


def read_file(path: Path, named: bool) -> FileContent:
    """What the file says. ConfigInvalid names the file, the key, its value and what is allowed."""
    raw = _read(path, named)
    if raw is None:
        return FileContent()
    import tomllib  # only those who have a file pay for it

    try:
        content = tomllib.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigInvalid(f"{path} is not UTF-8 text (byte {error.start})") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigInvalid(f"{path} is not TOML: {str(error) or 'it is nested too deeply'}") from None
    _only(content, TABLES, f"{path}: ")
    serve = {name: option.kind for name, option in SERVE.items()}
    models = _table(content, "models", path)
    return FileContent(
        path,
        _checked(_table(content, "serve", path), serve, f"{path}: serve."),
        _aliases(_table(content, "aliases", path), path),
        {name: _model(name, _table(models, name, path, "models."), path) for name in models},
    )


def _model(name: str, found: Mapping[str, Any], path: Path) -> dict[str, Any]:
    kinds = {key: kind for key, kind in MODEL.items() if name != ANY_MODEL or key not in SOME}
    return _checked(found, kinds, f"{path}: models.{name}.")


def _read(path: Path, named: bool) -> bytes | None:
    try:
        if not path.is_file():
            if not named and not path.exists():
                return None
            raise ConfigInvalid(
                f"the configuration {path} is not there" if not path.exists() else f"{path} is no file"
            )
        if path.stat().st_size > LARGEST:
            raise ConfigInvalid(
                f"{path} is too large for a configuration: at most {LARGEST:,} bytes are read"
            )
        return path.read_bytes()
    except OSError as error:
        raise ConfigInvalid(f"the configuration {path} cannot be read: {error.strerror or error}") from error


def _table(content: Mapping[str, Any], name: str, path: Path, prefix: str = "") -> dict[str, Any]:
    found = content.get(name, {})
    if not isinstance(found, dict):
        raise ConfigInvalid(
            f"{path}: {prefix}{name} = {_shown(found)} is not allowed; a table, [{prefix}{name}], is"
        )
    return found


def _only(found: Iterable[str], known: Iterable[str], where: str) -> None:
    names = list(known)
    for name in found:
        if name not in names:
            import difflib  # slow to import, and rarely needed

            near = difflib.get_close_matches(name, names, 1)
            hint = f"; did you mean {near[0]}?" if near else ";"
            raise ConfigInvalid(f"{where}{name} is not known{hint} these are: {', '.join(names)}")


def _checked(found: Mapping[str, Any], kinds: Mapping[str, Kind], where: str) -> dict[str, Any]:
    _only(found, kinds, where)
    return {name: checked(value, kinds[name], f"{where}{name}") for name, value in found.items()}


def checked(value: Any, kind: Kind, where: str, text: bool = False) -> Any:
    """The value as the option takes it."""
    try:
        return kind.parse_text(value) if text else kind.parse(value)
    except ValueError:
        raise ConfigInvalid(f"{where} = {_shown(value)} is not allowed; {kind.allowed}") from None


def _shown(value: Any) -> str:
    """A value as the file has it: strings quoted, and nothing else."""
    if isinstance(value, str):
        return shorten(value)
    text = json.dumps(value, default=str, ensure_ascii=False)
    return text if len(text) <= 80 else f"{text[:60]}…"


def _aliases(found: Mapping[str, Any], path: Path) -> dict[str, str]:
    for name, target in found.items():
        if not ALIAS.fullmatch(name):
            raise ConfigInvalid(
                f"{path}: {shorten(name)} cannot be an alias; letters, digits, dot, dash and underscore are allowed"
            )
        if not isinstance(target, str) or not target.strip():
            raise ConfigInvalid(
                f"{path}: aliases.{name} = {_shown(target)} is not allowed; a model's name is"
            )
    for name in found:
        seen = [name]
        while (following := found.get(seen[-1])) is not None:
            if following in seen:
                raise ConfigInvalid(f"{path}: aliases {' → '.join([*seen, following])} lead nowhere")
            seen.append(following)
    return dict(found)
