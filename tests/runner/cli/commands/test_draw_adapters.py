"""Adapters on the command line of `diptych draw`."""

from pathlib import Path
from typing import Any

import pytest

from pipelines.loras import Lora
from runner.cli.commands.draw import _arguments, options_of, request_of
from runner.cli.main import _parser
from runner.errors import BadRequest


def options(*arguments: str) -> Any:
    return options_of(_parser().parse_args(["draw", "a boat", *arguments]))


def test_an_adapter_is_named_with_its_scale() -> None:
    chosen = options("--lora", "ink:0.8", "--lora", "owner/name:v2", "--lora-tags")
    request = request_of(chosen, "png")
    assert request.loras == (Lora("ink", 0.8), Lora("owner/name:v2"))
    assert request.lora_tags
    assert _arguments(chosen) == []


def test_a_file_goes_by_its_name_and_to_a_runner_of_our_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "ink.safetensors").write_bytes(b"")
    chosen = options("--lora", "sub/ink.safetensors:0.5", "--lora", "gone.safetensors")
    assert request_of(chosen, "png").loras == (Lora("ink", 0.5), Lora("gone.safetensors"))
    assert _arguments(chosen) == ["--lora-file", str(tmp_path / "sub" / "ink.safetensors")]


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "ink.safetensors").write_bytes(b"")
    with pytest.raises(BadRequest, match="have the same name; rename one of them"):
        options(*(word for folder in "ab" for word in ("--lora", str(tmp_path / folder / "ink.safetensors"))))


def test_a_scale_out_of_range_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options("--lora", "ink:500")
    assert "500 is out of range; -100 to 100 is allowed" in capsys.readouterr().err
