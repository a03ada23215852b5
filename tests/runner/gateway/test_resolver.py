"""The names that clients use: which models they may mean, without looking."""

from pathlib import Path

import pytest

from runner.gateway.resolver import ModelResolver
from runner.gateway.settings import Settings

ALIASES = {"klein": "owner/klein", "here": "/models/here", "home": "~/toy", "forced": "folder:/models/it"}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("owner/other", ["hf:owner/other", "ollama:owner/other:latest"]),
        ("owner/other@main", ["hf:owner/other"]),
        ("klein", [f"folder:{Path.cwd()}/owner/klein", "hf:owner/klein", "ollama:owner/klein:latest"]),
        ("hf:owner/klein", ["hf:owner/klein"]),
        ("hf:gpt2", ["hf:gpt2"]),
        ("gpt2", ["ollama:gpt2:latest"]),
        ("ollama:gpt2:latest", ["ollama:gpt2:latest"]),
        ("here", ["folder:/models/here"]),
        ("/models/here", ["folder:/models/here"]),
        ("forced", ["folder:/models/it"]),
        ("home", ["folder:/home/me/toy"]),
        ("./named", [f"folder:{Path.cwd()}/named"]),
        ("named", [f"folder:{Path.cwd()}/named"]),
        ("/models/other", []),
        ("folder:/models/other", []),
        ("../here", []),
        ("", []),
        ("a\0b", []),
    ],
)
def test_a_name_may_mean(name: str, meant: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setattr(Path, "is_dir", lambda self: True)
    assert ModelResolver(Settings(aliases=ALIASES, models=("./named",))).arguments(name) == meant
