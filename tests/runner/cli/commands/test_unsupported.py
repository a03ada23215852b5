"""A model that cannot be run ends a command with its reason, before a runner is started."""

import io
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipelines.fallback import catalog
from runner.errors import ModelNotSupported
from runner.inspect.detect import check_runnable
from runner.process.child import Child
from runner.sources import find
from tests.runner.checkpoints import image_files, text_files, write
from tests.runner.cli.commands.run import Diptych
from tests.runner.live import ROOT
from tests.waiting import PATIENCE

DEBERTA = "mlx-lm has no architecture 'deberta'"


@pytest.fixture
def deberta(tmp_path: Path) -> Path:
    return write(tmp_path / "deberta", text_files() | {"config.json": {"model_type": "deberta"}})


def forbid_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: Any, **__: Any) -> None:
        pytest.fail("a runner was started")

    monkeypatch.setattr(Child, "start", start)


def test_nothing_is_started_for_an_engine_that_does_not_run_the_model(
    diptych: Diptych, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_runners(monkeypatch)
    monkeypatch.setattr(catalog, "installed", lambda: False)
    folder = write(tmp_path / "ours", image_files())
    done = diptych("draw", "a sun", "--engine", "torch", "--model", str(folder))
    assert (done.code, "cannot be run by the torch engine" in done.err) == (1, True), done.err


@pytest.mark.parametrize(
    "command", [("chat",), ("draw", "a sun", "--model"), ("draw", "a sun", "--memory", "staged", "--model")]
)
def test_nothing_is_started_for_it(
    diptych: Diptych, deberta: Path, command: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    forbid_runners(monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Why?")))
    done = diptych(*command, str(deberta))
    assert (done.code, DEBERTA in done.err) == (1, True), done.err


def test_a_runner_ends_with_its_reason_and_loads_nothing(deberta: Path) -> None:
    # -X importtime names every module that is imported on the way.
    command = [sys.executable, "-X", "importtime", "-m", "runner", "runner", "--model", str(deberta)]
    command += ["--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert DEBERTA in done.stderr.splitlines()[-1]
    assert "mlx.core" not in done.stderr


def test_pictures_without_an_engine_and_files_that_are_missing_are_told_alike(tmp_path: Path) -> None:
    odd = write(tmp_path / "odd", image_files("NoSuchPipeline"))
    bare = write(tmp_path / "bare", {"config.json": {"model_type": "qwen3"}})
    for folder, words in ((odd, "NoSuchPipeline"), (bare, "has no weights")):
        with pytest.raises(ModelNotSupported, match=words):
            check_runnable(find(str(folder)))
