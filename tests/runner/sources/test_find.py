"""Any name at all is a model or a clear error, and reads nothing outside the places where models are."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import DiptychError
from runner.sources import find
from tests.runner.checkpoints import text_files, write

PIECES = st.sampled_from(
    [
        "..",
        ".",
        "/",
        ":",
        "@",
        "\\",
        "~",
        "hf:",
        "ollama:",
        "folder:",
        "\0",
        "\n",
        " ",
        "a",
        "owner/name",
        "model",
        "%2e",
    ]
)
NAMES = st.text() | st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_a_name_from_a_client_finds_nothing_outside_the_stores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    if not (tmp_path / "a").exists():
        write(tmp_path / "a", text_files())
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "store" / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store" / "models"))
    with pytest.raises(DiptychError) as raised:
        find(name, folders=False)
    assert raised.value.message.isprintable()
    assert len(raised.value.message) < 1000


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(NAMES)
def test_a_name_on_the_command_line_is_a_folder_or_a_clear_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "models"))
    message = ""
    try:
        kind = find(name).source
    except DiptychError as error:
        kind, message = "error", error.message
    assert kind in ("folder", "error")
    assert len(message) < 1500
