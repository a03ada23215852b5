"""The API keys that the configuration names."""

from pathlib import Path

import pytest

from runner.config import load
from runner.errors import ConfigInvalid


def api_keys(folder: Path, **variables: str) -> tuple[str, ...]:
    return load(None, {"XDG_CONFIG_HOME": str(folder), **variables}).api_keys


def test_without_keys_there_are_none(tmp_path: Path) -> None:
    assert api_keys(tmp_path) == ()


def test_one_is_given_itself_and_others_in_a_file_one_per_line(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("# ours\none\n\n two \n")
    assert api_keys(tmp_path, DIPTYCH_API_KEY="zero", DIPTYCH_API_KEY_FILE=str(tmp_path / "keys")) == (
        "zero",
        "one",
        "two",
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "contains no API keys"),
        (b"# nothing\n", "contains no API keys"),
        (b"\xff", "it is not UTF-8 text"),
    ],
)
def test_a_file_without_keys_is_an_error(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "keys").write_bytes(content)
    with pytest.raises(ConfigInvalid, match=message):
        api_keys(tmp_path, DIPTYCH_API_KEY_FILE=str(tmp_path / "keys"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("absent", "No such file or directory"),
        (".", "Is a directory"),
        ("~nobody-here/keys", "No such file or directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(ConfigInvalid, match=f"cannot read the API keys in .*: {reason}"):
        api_keys(tmp_path, DIPTYCH_API_KEY_FILE=name if name.startswith("~") else str(tmp_path / name))
