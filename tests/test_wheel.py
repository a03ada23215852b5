"""What a wheel carries: all that a checkout's `diptych` reads, and nothing of its tests."""

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from tests import ROOT

PACKAGES = ("runner", "pipelines", "models")
SAMPLE = ("README.md", "model_index.json", "scheduler", "text_encoder", "tokenizer", "transformer", "vae")


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    uv = shutil.which("uv")
    if uv is None:
        pytest.skip("uv is not installed")
    folder = tmp_path_factory.mktemp("wheel")
    built = subprocess.run(
        [uv, "build", "--wheel", "--quiet", "--out-dir", str(folder), str(ROOT)],
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]


def test_a_wheel_has_every_file_of_the_packages(names: set[str]) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    )
    missing = set(tracked.stdout.split()) - names
    assert not missing, missing
    assert "runner/web/index.html" in names


def test_a_wheel_has_the_sample(names: set[str]) -> None:
    sample = ROOT / "samples" / "shapes"
    paths = [
        path
        for part in SAMPLE
        for path in (files(sample / part) if (sample / part).is_dir() else [sample / part])
    ]
    missing = {f"runner/shapes/{path.relative_to(sample)}" for path in paths} - names
    assert not missing, missing


def test_a_wheel_has_nothing_else(names: set[str]) -> None:
    others = {name.split("/")[0] for name in names} - set(PACKAGES)
    assert len(others) == 1, others
    assert others.pop().endswith(".dist-info")
