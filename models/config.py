"""A component's config.json as a frozen dataclass: its fields are the keys, in the checkpoint's own spelling.

    @dataclass(frozen=True)
    class ThingConfig(Config):
        hidden_size: int                 # required: the file must have it
        eps: float = 1e-6                # what the reference takes where the file says nothing
        axes: tuple[int, ...] = (16, 56, 56)

Keys without a field are ignored; values derived from fields are properties.
"""

import json
import types
from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Self, TypeVar, Union, get_args, get_origin, get_type_hints

T = TypeVar("T")
NAMES: Mapping[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "a string",
    bool: "true or false",
    type(None): "null",
}


class ConfigError(ValueError):
    """A configuration that cannot be read, or that describes something Diptych cannot run."""


@dataclass(frozen=True)
class Config:
    """The base of every network's configuration."""

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        return read_config(cls, values)

    @classmethod
    def from_file(cls, path: Path) -> Self:
        return cls.from_dict(read_json(path))


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file; anything else is a ConfigError that names the file."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(f"{path} is missing") from error
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} does not hold a JSON object")
    return values


def read_config(cls: type[T], values: Mapping[str, Any]) -> T:
    """Fill `cls` from `values`; a ConfigError names class, key and value of what is missing or has a wrong type."""
    if not is_dataclass(cls):
        raise TypeError(f"{cls.__name__} is not a dataclass")
    hints = get_type_hints(cls)
    converted: dict[str, Any] = {}
    for field in fields(cls):
        if field.name in values:
            where = f"{cls.__name__}: {field.name}"
            converted[field.name] = _convert(where, hints[field.name], values[field.name])
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ConfigError(f"{cls.__name__}: {field.name} is missing")
    return cls(**converted)


def _convert(where: str, hint: Any, value: Any) -> Any:
    """`value` as `hint` asks: lists become tuples, whole numbers pass as floats, objects fill dataclasses."""
    origin, arguments = get_origin(hint), get_args(hint)
    if hint is Any:
        return value
    if origin in (Union, types.UnionType):
        return _first_that_fits(where, hint, arguments, value)
    if origin is tuple and isinstance(value, list | tuple):
        return _as_tuple(where, hint, arguments, value)
    if origin in (dict, Mapping) and isinstance(value, Mapping):
        return {key: _convert(f"{where}.{key}", arguments[1], item) for key, item in value.items()}
    if is_dataclass(hint) and isinstance(hint, type) and isinstance(value, Mapping):
        return read_config(hint, value)
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and type(value) is hint:
        return value
    raise ConfigError(f"{where} is {value!r}; {_name(hint)} is needed")


def _first_that_fits(where: str, hint: Any, choices: tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in choices:
        return None
    choices = tuple(choice for choice in choices if choice is not type(None))
    if len(choices) == 1 and is_dataclass(choices[0]) and isinstance(value, Mapping):
        return _convert(where, choices[0], value)
    for choice in choices:
        try:
            return _convert(where, choice, value)
        except ConfigError:
            continue
    raise ConfigError(f"{where} is {value!r}; {_name(hint)} is needed")


def _as_tuple(
    where: str, hint: Any, items: tuple[Any, ...], value: list[Any] | tuple[Any, ...]
) -> tuple[Any, ...]:
    if len(items) == 2 and items[1] is Ellipsis:
        items = items[:1] * len(value)
    if len(items) != len(value):
        raise ConfigError(f"{where} is {value!r}; {_name(hint)} is needed")
    return tuple(
        _convert(f"{where}[{i}]", kind, item) for i, (kind, item) in enumerate(zip(items, value, strict=True))
    )


def _name(hint: Any) -> str:
    """A type in words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        return " or ".join(map(_name, arguments))
    if origin is tuple:
        count = "" if arguments[-1] is Ellipsis else f"{len(arguments)} "
        return f"a list of {count}values, each {_name(arguments[0])}"
    return NAMES.get(hint, "an object")
