"""The scripts that compare with peers and look into kernels: each can be started, and says how."""

import importlib
import shlex
import sys
from pathlib import Path

import pytest

from runner.bench.specs import SPECS
from runner.cli import main
from tests.benchmarks import gpu

SCRIPTS = sorted(
    file.stem for file in Path(__file__).parent.glob("*.py") if not file.stem.startswith(("_", "test_"))
)


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_script_explains_itself(
    name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as ended:
        importlib.import_module(f"tests.benchmarks.{name}").main()
    assert ended.value.code == 0
    assert f"python -m tests.benchmarks.{name}" in capsys.readouterr().out


@pytest.mark.parametrize("plan", gpu.PLANS)
def test_the_bench_understands_every_run_of_a_plan(plan: str) -> None:
    for run in gpu.PLANS[plan].values():
        options = main._parser().parse_args(["bench", *shlex.split(run)])
        assert options.names
        assert set(options.names) <= set(SPECS)
