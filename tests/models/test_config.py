import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from models.config import Config, ConfigError, read_json


@dataclass(frozen=True)
class Inner(Config):
    base: float


@dataclass(frozen=True)
class Thing(Config):
    size: int
    name: str = "thing"
    eps: float = 1e-6
    axes: tuple[int, ...] = (1, 2)
    limit: int | None = None
    inner: Inner | None = None
    rope: Mapping[str, Any] | None = None
    pair: tuple[int, int] = (0, 0)
    flag: bool = False


def test_keys_fill_fields_and_unknown_keys_are_ignored() -> None:
    thing = Thing.from_dict({"size": 3, "axes": [4, 5, 6], "eps": 1, "torch_dtype": "float16", "flag": True})
    assert thing == Thing(3, axes=(4, 5, 6), eps=1.0, flag=True)
    assert isinstance(thing.eps, float)


def test_objects_fill_nested_dataclasses_and_mappings() -> None:
    thing = Thing.from_dict(
        {"size": 1, "inner": {"base": 2, "x": 0}, "rope": {"rope_theta": 1e6, "list": [1]}}
    )
    assert thing.inner == Inner(2.0)
    assert thing.rope == {"rope_theta": 1e6, "list": [1]}


def test_null_is_taken_only_where_it_is_allowed() -> None:
    assert Thing.from_dict({"size": 1, "limit": None}).limit is None
    with pytest.raises(ConfigError, match="Thing: size is None; a whole number is needed"):
        Thing.from_dict({"size": None})


def test_a_missing_required_key_is_named() -> None:
    with pytest.raises(ConfigError, match="Thing: size is missing"):
        Thing.from_dict({})
    with pytest.raises(ConfigError, match="Inner: base is missing"):
        Thing.from_dict({"size": 1, "inner": {}})


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": "big"}, "Thing: size is 'big'; a whole number is needed"),
        ({"size": True}, "Thing: size is True; a whole number is needed"),
        ({"size": 1.5}, "Thing: size is 1.5; a whole number is needed"),
        ({"size": 1, "axes": [1, "2"]}, r"Thing: axes\[1\] is '2'; a whole number is needed"),
        ({"size": 1, "axes": 3}, "Thing: axes is 3; a list of values, each a whole number is needed"),
        (
            {"size": 1, "pair": [1, 2, 3]},
            r"Thing: pair is \[1, 2, 3\]; a list of 2 values, each a whole number is needed",
        ),
        ({"size": 1, "limit": "no"}, r"Thing: limit is 'no'; a whole number or null is needed"),
        ({"size": 1, "flag": 1}, "Thing: flag is 1; true or false is needed"),
    ],
)
def test_a_wrong_type_names_class_key_and_value(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Thing.from_dict(values)


def test_a_file_that_does_not_hold_an_object_is_named(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with pytest.raises(ConfigError, match=r"config\.json is missing"):
        read_json(path)
    path.write_text("[1]")
    with pytest.raises(ConfigError, match="does not hold a JSON object"):
        read_json(path)
    path.write_text("{")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_json(path)
    path.write_text(json.dumps({"size": 2}))
    assert Thing.from_file(path).size == 2
