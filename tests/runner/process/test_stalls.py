"""A load that does nothing is told and given up; one that works, however slowly, is not."""

import asyncio
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runner.errors import RunnerFailed
from runner.process import child, stalls, startup
from runner.process.stalls import Activity, LoadWatch, processor_time
from runner.process.supervisor import Server
from tests.runner.pretend import RUNNER, pretend_model
from tests.toys import toy_text
from tests.waiting import PATIENCE, until, wait_until

linux = pytest.mark.skipif(sys.platform != "linux", reason="the system does not tell there")
posix = pytest.mark.skipif(sys.platform == "win32", reason="there are no such signals and pipes")


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is given up after half a minute is given up after a second."""
    monkeypatch.setattr(startup, "STALL", 1.0)
    monkeypatch.setattr(startup, "WARNING", 0.3)
    monkeypatch.setattr(startup, "HEALTH_TIMEOUT_S", 0.3)


# -- in the runner


def keep_doing(work: Callable[[], object]) -> tuple[threading.Thread, threading.Event]:
    ended = threading.Event()

    def run() -> None:
        while not ended.is_set():
            work()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, ended


def test_work_on_another_thread_is_activity_and_our_own_is_not() -> None:
    activity = Activity()
    began = time.monotonic()
    while time.monotonic() - began < 0.5:
        sum(range(10_000))
    assert activity.idle(0.0) > 0.4
    thread, ended = keep_doing(lambda: sum(range(10_000)))
    try:
        wait_until(lambda: activity.idle(0.0) < 0.1)
    finally:
        ended.set()
        thread.join()


def test_progress_is_activity_and_waiting_is_not() -> None:
    activity = Activity()
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait, daemon=True)
    thread.start()
    activity.idle(0.1)
    wait_until(lambda: activity.idle(0.1) > 0.3)
    assert activity.idle(0.100001) == 0.0
    waiting.set()
    thread.join()


# -- seen from its parent


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as process:
        yield process
        process.kill()


@linux
def test_a_silent_process_that_computes_is_not_idle_until_it_is_stopped(
    process: subprocess.Popen[bytes],
) -> None:
    watch = LoadWatch(process.pid)
    for _ in range(3):
        before = processor_time(process.pid)
        wait_until(lambda before=before: processor_time(process.pid) != before)  # type: ignore[misc]
        watch.silent()
        assert watch.idle == 0.0
    process.send_signal(signal.SIGSTOP)
    wait_until(lambda: Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
    watch.silent()

    def look() -> bool:
        watch.silent()
        return watch.idle > 0.3

    wait_until(look)


def test_our_own_pause_is_not_taken_for_the_runners(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stalls, "processor_time", lambda pid: 7)
    watch = LoadWatch(1)
    later = time.monotonic() + 3600
    monkeypatch.setattr(stalls.time, "monotonic", lambda: later)
    watch.silent()
    assert watch.idle == stalls.MAX_INTERVAL_S


def test_where_the_system_tells_nothing_a_silent_process_is_taken_to_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stalls, "processor_time", lambda pid: None)
    watch = LoadWatch(1)
    watch.silent()
    assert watch.idle == 0.0


# -- loads


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Server]:
    monkeypatch.setattr(child, "RUNNER", RUNNER)
    return lambda **behaviour: Server(
        str(pretend_model(tmp_path / "model", **behaviour)), load_timeout=PATIENCE
    )


@linux
@pytest.mark.usefixtures("quick")
def test_a_stopped_runner_is_told_and_given_up(
    pretend: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        server = pretend(load=PATIENCE)
        starting = asyncio.create_task(server.start())
        await until(lambda: server.port is not None and server.progress > 0)
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(
            RunnerFailed, match=r"was \d+% loaded and made no progress for 1 s: it is suspended, or waiting"
        ):
            await asyncio.wait_for(starting, PATIENCE)
        assert server.has_exited

    caplog.set_level(logging.WARNING)
    asyncio.run(main())
    assert "% loaded and makes no progress" in caplog.text


@pytest.mark.usefixtures("quick")
def test_a_runner_that_says_it_works_may_take_its_time(pretend: Callable[..., Server]) -> None:
    """What is compiled for the first time moves no progress."""

    async def main() -> None:
        server = pretend(still=3.0)
        await server.start()
        assert server.progress == 1.0
        await server.close()

    asyncio.run(main())


@pytest.mark.usefixtures("quick")
def test_a_runner_that_says_it_does_nothing_is_given_up(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        with pytest.raises(RunnerFailed, match="made no progress for 1 s"):
            await asyncio.wait_for(pretend(never=True, idle=True).start(), PATIENCE)

    asyncio.run(main())


@posix
@pytest.mark.usefixtures("machine")
def test_a_real_load_that_waits_for_a_file_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pipe is met by what opens the tokenizer's files, after ours have been checked: it takes the place of one then."""
    folder = tmp_path / "model"
    folder.mkdir()
    for file in toy_text().iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    os.mkfifo(folder / "waits")
    # A reader of the tokenizer's that opens what never comes, in the place of a disk that never answers.
    start = (
        "import sys; from models.language import load; from runner.cli.main import main; "
        f"load._tokenizer = lambda *_: open({str(folder / 'waits')!r}).read(); main(sys.argv[1:])"
    )
    monkeypatch.setattr(child, "RUNNER", (sys.executable, "-c", start))
    monkeypatch.setattr(startup, "STALL", 3.0)

    async def main() -> None:
        with pytest.raises(
            RunnerFailed, match="made no progress for 3 s: it is suspended, or waiting for a file"
        ):
            await asyncio.wait_for(Server(str(folder), load_timeout=PATIENCE).start(), PATIENCE)

    asyncio.run(main())
