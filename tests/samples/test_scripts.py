"""The short scripts run as they stand, against the gateway that a newcomer would start."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from tests.runner.inspect.test_sample import alone
from tests.runner.live import ROOT
from tests.waiting import PATIENCE

SAMPLES = ROOT / "samples"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Where `diptych serve` listens on a machine without models."""
    home = tmp_path_factory.mktemp("home")
    with (home / "log").open("w+") as log:
        serving = subprocess.Popen(
            [sys.executable, "-m", "runner", "serve", "--port", "0"],
            cwd=ROOT, env=alone(home), stdout=subprocess.PIPE, stderr=log, text=True,
        )  # fmt: skip
        try:
            assert serving.stdout
            port = serving.stdout.readline().strip()
            assert port.isdigit(), (home / "log").read_text()
            assert "shapes draws, shapes-chat chats" in (home / "log").read_text()
            yield port
        finally:
            serving.terminate()
            serving.communicate(timeout=PATIENCE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the scripts leave their pictures, the next finding those of the last."""
    return tmp_path_factory.mktemp("pictures")


def run(folder: Path, port: str, *command: str) -> str:
    variables = {**os.environ, "DIPTYCH_PORT": port, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=folder, env=variables, capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return done.stdout


def script(folder: Path, port: str, name: str, *arguments: str) -> str:
    if name not in ("own_program.py", "first_words.py"):
        pytest.importorskip("openai", reason="the clients group is not installed")
    return run(folder, port, sys.executable, str(SAMPLES / name), *arguments)


def colour_at(picture: Path, x: float, y: float) -> str:
    """Which of red, green and blue is strongest there, in shares of the sides."""
    image = Image.open(picture).convert("RGB")
    pixel = image.getpixel((round(image.width * x), round(image.height * y)))
    assert isinstance(pixel, tuple)
    return ("red", "green", "blue")[max(range(3), key=lambda channel: pixel[channel])]


def test_a_text_is_streamed(folder: Path, port: str) -> None:
    assert "star" in script(folder, port, "stream_text.py", "a green star")


def test_a_picture_comes_with_previews_and_is_then_edited(folder: Path, port: str) -> None:
    assert script(folder, port, "draw_picture.py").split("\n")[:-1] == [
        "preview 1",
        "preview 2",
        "preview 3",
        "drawn.png",
    ]
    assert colour_at(folder / "drawn.png", 0.5, 0.27) == "red"
    assert colour_at(folder / "drawn.png", 0.5, 0.71) == "blue"
    assert script(folder, port, "edit_picture.py") == "edited.png\n"
    assert colour_at(folder / "edited.png", 0.5, 0.27) == "green"


def test_embeddings_tell_what_is_alike(folder: Path, port: str) -> None:
    first, near, far = (
        float(line.split()[0]) for line in script(folder, port, "embed_texts.py").splitlines()
    )
    assert first == pytest.approx(1, abs=1e-3)
    assert near > far


def test_curl_is_enough(folder: Path, port: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    said = run(folder, port, "bash", str(SAMPLES / "with_curl.sh"))
    assert '"done":true' in said
    assert '{"step":4,"total":4}' in said
    assert colour_at(folder / "drawn.png", 0.5, 0.27) == "red"
    assert colour_at(folder / "edited.png", 0.5, 0.27) == "green"
    assert '"embedding"' in said


def test_a_program_of_ones_own_starts_its_runner(folder: Path, port: str) -> None:
    said = script(folder, port, "own_program.py", "a green star")
    assert "star" in said.splitlines()[0]
    assert said.splitlines()[1:] == [*(f"step {step} of 4" for step in (1, 2, 3, 4)), "drawn.png"]
    assert colour_at(folder / "drawn.png", 0.5, 0.5) == "green"


def test_first_words_come_from_a_runner_that_the_script_starts(folder: Path, port: str) -> None:
    answer, _, speed = script(folder, port, "first_words.py").strip().rpartition("\n\n")
    assert "star" in answer
    assert speed.endswith(" tokens/s")


def test_every_script_is_run_here_and_listed_in_the_readme() -> None:
    readme = (SAMPLES / "README.md").read_text()
    tests = Path(__file__).read_text()
    for path in [*SAMPLES.glob("*.py"), *SAMPLES.glob("*.sh")]:
        assert path.name in tests, path
        assert path.name in readme, path
