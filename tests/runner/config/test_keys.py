"""The API keys that the configuration names."""

from pathlib import Path

import pytest

from runner.config import load
from runner.config.keys import keys
from runner.errors import ConfigInvalid


def found(folder: Path, **variables: str) -> tuple[str, ...]:
    return keys(load(None, {"XDG_CONFIG_HOME": str(folder), **variables}))


def test_without_keys_there_are_none(tmp_path: Path) -> None:
    assert found(tmp_path) == ()


def test_one_is_stated_and_others_stand_in_a_file_a_line_each(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\none\n\n two \n")
    assert found(tmp_path, DIPTYCH_API_KEY="zero", DIPTYCH_API_KEY_FILE=str(tmp_path / "keys")) == (
        "zero",
        "one",
        "two",
    )


@pytest.mark.parametrize("content", [b"", b"# nothing\n", b"\xff"])
def test_a_file_without_keys_is_an_error(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigInvalid, match="keys"):
        found(tmp_path, DIPTYCH_API_KEY_FILE=str(tmp_path / "keys"))


@pytest.mark.parametrize("name", ["absent", ".", "~nobody-here/keys"])
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigInvalid, match="cannot be read"):
        found(tmp_path, DIPTYCH_API_KEY_FILE=name if name.startswith("~") else str(tmp_path / name))
