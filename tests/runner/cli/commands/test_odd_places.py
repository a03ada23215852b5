"""Commands where something is amiss with the machine: a folder that is no more, a disk that is full."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runner.cli.commands.run import Diptych
from tests.waiting import PATIENCE

FULL = Path("/dev/full")


def run(*arguments: str, folder: Path, **options: object) -> "subprocess.CompletedProcess[str]":
    """The command in a folder of its own, as installed."""
    command = [sys.executable, "-P", "-m", "runner", *arguments]
    return subprocess.run(command, cwd=folder, stderr=subprocess.PIPE, text=True, timeout=PATIENCE, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize("arguments", [("list",), ("draw", "a boat"), ("runner", "--model=x", "--port=0")])
def test_a_folder_that_was_removed_is_said(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    (tmp_path / "gone").mkdir()
    done = run(*arguments, folder=tmp_path / "gone", preexec_fn=lambda: os.rmdir(tmp_path / "gone"))
    assert done.returncode == 1
    assert done.stderr == ("diptych: the current folder no longer exists (No such file or directory)\n")


@pytest.mark.skipif(not FULL.exists(), reason="only where there is a device that is always full")
def test_an_output_that_takes_nothing_is_said(machine: Path) -> None:
    with FULL.open("w") as full:
        done = run("config", folder=machine, stdout=full)
    assert (done.returncode, done.stderr) == (1, "diptych: No space left on device\n")


@pytest.mark.parametrize("closed", [(0,), (1,), (2,), (0, 1, 2)])
def test_without_an_input_or_an_output_it_works_all_the_same(machine: Path, closed: tuple[int, ...]) -> None:
    done = run("config", folder=machine, preexec_fn=lambda: [os.close(number) for number in closed])
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_to_is_said(diptych: Diptych, machine: Path) -> None:
    (machine / "shut").mkdir(mode=0o500)
    done = diptych("draw", "a boat", "-o", str(machine / "shut/boat.png"))
    assert (done.code, "shut: it is not writable" in done.err) == (1, True)
