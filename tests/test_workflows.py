"""What a fork's pushes run: actions of a known major version, no secrets, and scripts that are there."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def steps(path: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(path.read_text())["jobs"].values()
    return [step for job in jobs for step in job["steps"]]


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.name)
def test_a_workflow_is_pinned_needs_no_secret_and_runs_what_is_there(path: Path) -> None:
    assert "secrets" not in path.read_text()
    for step in steps(path):
        if "uses" in step:
            assert re.fullmatch(r"[\w-]+/[\w-]+@v\d+", step["uses"]), step
        for script in re.findall(r"bash (\S+)", step.get("run", "")):
            assert (ROOT / script).is_file(), script


def test_the_check_runs_on_linux_and_on_apple_silicon_and_says_what_the_machine_can_do() -> None:
    (path,) = WORKFLOWS
    check = yaml.safe_load(path.read_text())["jobs"]["check"]
    assert check["strategy"]["matrix"]["machine"] == ["ubuntu-24.04", "macos-15"]
    commands = [step["run"] for step in check["steps"] if "run" in step]
    assert "bash .ci/check" in commands
    assert "uv run diptych doctor" in commands
