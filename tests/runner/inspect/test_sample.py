"""A newcomer names no model and gets a picture, and a text that makes sense."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from PIL import Image

from runner.errors import ModelNotFound
from runner.inspect import sample
from runner.sources import ModelMode
from tests.runner.live import ROOT


def alone(tmp_path: Path) -> dict[str, str]:
    """A machine on which there is nothing: no models, no configuration, no gateway."""
    none = {"HF_HOME": "hub", "OLLAMA_MODELS": "ollama", "XDG_CONFIG_HOME": "config", "HOME": "home"}
    return {
        **os.environ,
        **{name: str(tmp_path / folder) for name, folder in none.items()},
        "HF_HUB_OFFLINE": "1",
    }


def diptych(tmp_path: Path, *arguments: str, said: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", *arguments],
        cwd=ROOT,
        env=alone(tmp_path),
        input=said,
        capture_output=True,
        text=True,
    )


def test_draw_without_a_model_draws_what_was_asked_for(tmp_path: Path) -> None:
    out = tmp_path / "picture.png"
    done = diptych(tmp_path, "draw", "a red circle above a blue square", "-o", str(out), "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "sample" in done.stderr
    assert str(out) in done.stdout
    picture = Image.open(out).convert("RGB")
    middle = picture.width // 2

    def strongest(y: int) -> int:
        pixel = picture.getpixel((middle, y))
        assert isinstance(pixel, tuple)
        return max(range(3), key=lambda channel: pixel[channel])

    assert strongest(round(picture.height * 0.27)) == 0, "red above"
    assert strongest(round(picture.height * 0.71)) == 2, "blue below"


def test_chat_without_a_model_speaks_of_shapes(tmp_path: Path) -> None:
    done = diptych(tmp_path, "chat", said="what colour is the sky?")
    assert done.returncode == 0, done.stderr
    assert "sample" in done.stderr
    assert "shape" in done.stdout.lower()


def test_where_there_is_no_sample_the_error_names_a_model(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(sample, "FOLDERS", {ModelMode.IMAGE: tmp_path / "none"})
    with pytest.raises(ModelNotFound, match=r"FLUX\.2-klein-4B"):
        sample.sample(ModelMode.IMAGE)


def test_a_wheel_carries_all_of_the_sample_but_its_pictures() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    inside = {Path(source).name: target for source, target in built["force-include"].items()}
    assert inside == {
        entry.name: f"runner/shapes/{entry.name}"
        for entry in sample.FOLDER.iterdir()
        if entry.suffix != ".png"
    }
