"""MLX is tried in a process of its own: whatever happens to it is a finding, and the rest is still tried."""

import os
import sys
from pathlib import Path
from typing import NoReturn

import mlx.core as mx
import numpy as np
import pytest

from models.kernels.operations import OPERATIONS, Operation
from runner.doctor import trial_process, trials
from runner.doctor.findings import Finding, Status
from runner.doctor.trial_process import run_trials

# Three trials, of which one ends the process as it is told to.
SCRIPT = """
import os, sys, time, json
def say(**value): os.write(1, json.dumps(value).encode() + b"\\n")
for name in ("MLX", "first", "kernel second", "third"):
    if name in sys.argv[1:]: continue
    say(trial=name)
    if name == {bad!r}:
        print("the driver says why", file=sys.stderr, flush=True)
        {act}
    say(section="operations", name=name, status="ok", detail="fine", advice="")
"""


def scripted(monkeypatch: pytest.MonkeyPatch, bad: str, act: str) -> list[Finding]:
    command = (sys.executable, "-c", SCRIPT.format(bad=bad, act=act))
    monkeypatch.setattr(trial_process, "COMMAND", command)
    return list(run_trials())


@pytest.mark.parametrize(
    ("act", "how"), [("os.abort()", "was ended by SIGABRT"), ("sys.exit(3)", "ended with code 3")]
)
def test_a_crash_is_a_finding_and_the_others_are_tried_after_it(
    monkeypatch: pytest.MonkeyPatch, act: str, how: str
) -> None:
    actual = scripted(monkeypatch, "kernel second", act)
    assert [one.name for one in actual] == ["MLX", "first", "kernel second", "third"]
    crash = actual[2]
    assert (crash.section, crash.status) == ("kernels", Status.FAIL)
    assert how in crash.detail
    assert "the driver says why" in crash.detail


def test_one_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trial_process, "SILENCE_TIMEOUT_S", 1.0)
    actual = scripted(monkeypatch, "first", "time.sleep(1e6)")
    assert "took longer than 1 s" in actual[1].detail
    assert [one.name for one in actual] == ["MLX", "first", "kernel second", "third"]


def test_without_mlx_nothing_else_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    actual = scripted(monkeypatch, "MLX", "os.abort()")
    assert [(one.section, one.name, one.status) for one in actual] == [("device", "MLX", Status.FAIL)]


def test_an_mlx_that_cannot_be_imported_is_told_with_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mlx"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "core.py").write_text('raise ImportError("libmlx.so: cannot open", name="mlx.core")')
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    (finding,) = run_trials()
    assert (finding.name, finding.status) == ("MLX", Status.FAIL)
    assert "libmlx.so: cannot open" in finding.advice


def test_on_this_machine_all_of_it_is_right() -> None:
    actual = list(run_trials())
    assert [one for one in actual if one.status is Status.FAIL] == []
    names = {one.name for one in actual}
    assert {one.name for one in OPERATIONS} <= names
    assert {"computes on", "float32", "matrix products"} <= names


# -- single operations


def test_an_operation_that_computes_something_else_fails() -> None:
    wrong = Operation("sum", 1e-5, lambda: (mx.array([1.0, 2.5]), np.array([1.0, 2.0])))
    nothing = Operation("sum", 1e-5, lambda: (mx.array([float("nan")]), np.array([1.0])))
    short = Operation("sum", 1e-5, lambda: (mx.array([1.0]), np.array([1.0, 2.0])))
    for operation, words in ((wrong, "differs by 2.5e-01"), (nothing, "nan"), (short, "shape")):
        (finding,) = trials._operation(operation)
        assert finding.status is Status.FAIL
        assert words in finding.detail


def test_a_kernel_that_differs_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    from models.kernels.checked import CheckedKernel

    wrong = CheckedKernel("twice", lambda: True, (mx.float32,), lambda dtype: [(mx.zeros(3), mx.ones(3))])
    (finding,) = trials._kernel(wrong)
    assert (finding.name, finding.status) == ("twice, float32", Status.FAIL)
    assert "differs from plain operations" in finding.detail


@pytest.mark.parametrize(
    ("difference", "how"), [(1e-7, "is computed as such"), (3e-4, "as tf32; MLX_ENABLE_TF32=0")]
)
def test_how_float32_is_computed_is_told(
    difference: float, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLX_ENABLE_TF32", "1")
    text = trials._precision(difference).detail
    assert how in text
    assert "MLX_ENABLE_TF32 is 1" in text


def test_what_mlx_raises_is_told() -> None:
    def refuse() -> NoReturn:
        raise RuntimeError("[Compiled::eval_gpu] no\nlibrary")

    (finding,) = trials._operation(Operation("compiled function", 1e-5, refuse))
    assert finding.status is Status.FAIL
    assert finding.detail == "RuntimeError: [Compiled::eval_gpu] no library"


def test_a_gpu_that_is_not_found_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trials, "has_gpu_backend", lambda: True)
    finding = trials._computes_on("AMD EPYC", gpu=False)
    assert finding.status is Status.FAIL
    assert "nvidia-smi" in finding.advice
