"""Gateways say that they run, and what killed ones left is cleared away."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runner.gateway import discovery
from runner.gateway.discovery import GatewayRecord, advertise, folder, gateways


@pytest.fixture(autouse=True)
def home(machine: Path) -> Path:
    return machine


def leave(pid: int, machine: str = "", port: int = 5, since: float = 1.0, name: str = "left.json") -> Path:
    """What a gateway that was killed leaves."""
    folder().mkdir(parents=True, exist_ok=True)
    record = GatewayRecord(machine or discovery.socket.gethostname(), pid, "127.0.0.1", port, since)
    (folder() / name).write_bytes(msgspec.json.encode(record))
    return folder() / name


def ended() -> int:
    """The number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_it_is_there_for_as_long_as_it_runs_and_for_its_user_alone() -> None:
    assert gateways() == []
    with advertise("127.0.0.1", 11):
        (record,) = gateways()
        assert (record.host, record.port, record.pid) == ("127.0.0.1", 11, os.getpid())
        (file,) = folder().iterdir()
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(folder().stat().st_mode) == 0o700
    assert list(folder().iterdir()) == []


def test_the_latest_comes_first() -> None:
    leave(os.getpid(), since=1.0, port=1)
    with advertise("127.0.0.1", 2), advertise("::1", 3):
        assert [record.port for record in gateways()] == [3, 2, 1]


def test_what_a_killed_one_left_is_removed() -> None:
    left = leave(ended())
    assert gateways() == []
    assert not left.exists()


def test_another_machines_is_left_alone() -> None:
    left = leave(ended(), machine="elsewhere")
    assert gateways() == []
    assert left.exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"\xff", b"{}", b'{"machine":"x","pid":-1,"host":"h","port":1,"since":0}', b"[" * 5000],
)
def test_a_file_that_is_something_else_is_passed_over(content: bytes) -> None:
    folder().mkdir(parents=True)
    (folder() / "odd.json").write_bytes(content)
    (folder() / "folder.json").mkdir()
    os.mkfifo(folder() / "pipe.json")
    assert gateways() == []


def test_where_nothing_can_be_written_it_is_said_and_the_gateway_runs(
    machine: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (machine / "state").write_text("not a folder")
    with advertise("127.0.0.1", 4321):
        assert gateways() == []
    assert "DIPTYCH_PORT=4321" in caplog.text
