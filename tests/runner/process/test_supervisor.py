"""`Server` over real processes: the runner itself, and one that misbehaves as it is told."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest

from runner.errors import BadRequest, Busy, DiptychError, ModelNotFound, ModelNotSupported, RunnerFailed
from runner.process.child import check_platform
from runner.process.supervisor import Server
from runner.protocol.text import TextChunk
from runner.units import GIB
from tests import processes
from tests.runner.checkpoints import text_files, write
from tests.runner.live import ROOT
from tests.runner.pretend import RUNNER, pretend_model
from tests.toys import toy_text
from tests.waiting import PATIENCE, until, wait_until


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Server]:
    """A Server whose runner behaves as it is told."""
    monkeypatch.setattr("runner.process.child.RUNNER", RUNNER)

    def make(weights: int = 1000, load_timeout: float | None = 30.0, **behaviour: Any) -> Server:
        folder = pretend_model(tmp_path / "pretend", weights, **behaviour)
        return Server(str(folder), load_timeout=load_timeout)

    return make


def run(main: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), PATIENCE))  # type: ignore[arg-type]


async def events(server: Server, **request: Any) -> list[dict[str, Any]]:
    return [msgspec.to_builtins(event) async for event in server.completion({"prompt": "Why", **request})]


def ended(pid: int) -> bool:
    return wait_until(lambda: processes.ended(pid))


# -- the runner itself


def test_a_server_answers_every_call_and_is_gone_when_closed() -> None:
    async def main() -> None:
        heard: list[float] = []
        server = Server(str(toy_text()))
        await server.start(heard.append)
        assert heard[-1] == 1.0
        assert heard == sorted(heard)
        stream = await events(server, options={"num_predict": 5})
        assert [event.get("token") is not None for event in stream] == [True] * 5 + [False]
        assert stream[-1]["done"] is True
        tokens = await server.tokenize("Hello")
        assert await server.detokenize(tokens) == "Hello"
        assert len(await server.embedding("Hello")) == 64
        await server.ping()
        assert (server.mode, server.context_length) == ("text", 4096)
        assert server.memory_size >= server.estimated_vram > 100_000
        with pytest.raises(BadRequest, match="prompt: 3 is not allowed"):
            await events(server, prompt=3)
        assert server.pid
        assert not server.has_exited
        await server.close()
        assert server.has_exited
        assert ended(server.pid)

    run(main)


def test_with_a_key_only_requests_that_carry_it_are_answered() -> None:
    async def main() -> None:
        async with Server(str(toy_text()), key="secret") as server:
            assert await server.tokenize("Hello")
            command = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}"]
            process = await asyncio.create_subprocess_exec(
                *command, f"http://127.0.0.1:{server.port}/v1/status", stdout=subprocess.PIPE
            )
            assert (await process.communicate())[0] == b"401"

    run(main)


PARENT = """
import asyncio, sys
from runner.process.supervisor import Server
async def main():
    server = Server(sys.argv[1])
    await server.start()
    print(server.pid, flush=True)
    await asyncio.sleep(1000)
asyncio.run(main())
"""


def test_a_runner_ends_when_its_parent_is_killed() -> None:
    command = [sys.executable, "-c", PARENT, str(toy_text())]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout
        pid = int(parent.stdout.readline())
        parent.kill()
    assert ended(pid)


def test_a_supervised_runner_ends_in_order_when_its_stdin_closes() -> None:
    command = [sys.executable, "-m", "runner", "runner", f"--model={toy_text()}", "--port=0", "--supervised"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as runner:
        assert runner.stdout
        assert runner.stdin
        port = int(runner.stdout.readline())
        assert httpx2.get(f"http://127.0.0.1:{port}/health").status_code in (200, 503)
        runner.stdin.close()
        assert runner.wait(PATIENCE) == 0


def test_a_model_that_is_not_there_is_refused_before_a_process_starts() -> None:
    async def main() -> None:
        server = Server("/nowhere/at/all")
        with pytest.raises(ModelNotFound):
            await server.start()
        assert server.pid is None

    run(main)


def test_a_model_that_cannot_be_loaded_fails_with_its_last_error(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, text_files())  # whose weights are not all there
        with pytest.raises(RunnerFailed, match=r"^[^:\d].* \(exit 1\)$"):
            await Server(str(tmp_path)).start()

    run(main)


def test_a_model_that_cannot_be_run_starts_no_runner(tmp_path: Path) -> None:
    async def main() -> None:
        write(tmp_path, text_files() | {"config.json": {"model_type": "deberta"}})
        server = Server(str(tmp_path))
        with pytest.raises(ModelNotSupported, match="no architecture 'deberta'"):
            await server.start()
        assert server.pid is None

    run(main)


def test_the_example_of_its_page_runs(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "server.md").read_text()
    (tmp_path / "once.py").write_text(page.split("```python\n")[1].split("```")[0])
    command = [sys.executable, str(tmp_path / "once.py"), str(toy_text())]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("text ")
    assert len(done.stdout.splitlines()) >= 2


# -- what can go wrong


def test_a_runner_that_exits_first_is_named_with_its_last_error_and_code(
    pretend: Callable[..., Server],
) -> None:
    async def main() -> None:
        with pytest.raises(RunnerFailed) as caught:
            await pretend(die=[3, "12:00:00.000 error   no such luck"]).start()
        assert caught.value.message == "no such luck (exit 3)"

    run(main)


def test_only_the_first_bytes_of_an_endless_line_are_kept(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        with pytest.raises(RunnerFailed) as caught:
            await pretend(die=[1, "ä" * 300_000]).start()
        assert caught.value.message == "ä" * 128 + " (exit 1)"

    run(main)


def test_a_runner_that_is_never_healthy_is_given_up_and_ended(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        server = pretend(never=True, load_timeout=0.5, log="still thinking")
        with pytest.raises(
            RunnerFailed, match=r"did not become ready: it was 0% loaded for 0\.5 s .* still thinking"
        ):
            await server.start()
        assert server.pid
        assert ended(server.pid)

    run(main)


def test_progress_is_passed_on_and_keeps_a_slow_load_alive(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        heard: list[float] = []
        server = pretend(load=1.5, load_timeout=1.0)
        await server.start(heard.append)
        assert len(heard) > 3
        await server.close()

    run(main)


def test_a_kill_that_comes_before_there_is_a_process_ends_the_start(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        server = pretend(load=PATIENCE)
        starting = asyncio.create_task(server.start())
        await asyncio.sleep(0)
        assert server.pid is None
        await server.kill("it was stopped while it loaded")
        with pytest.raises(RunnerFailed, match="it was stopped while it loaded"):
            await starting
        assert server.pid is None or ended(server.pid)

    run(main)


def test_a_start_that_is_cancelled_leaves_no_process(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        server = pretend(never=True)
        starting = asyncio.create_task(server.start())
        await until(lambda: server.pid)
        starting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await starting
        assert server.pid
        assert ended(server.pid)

    run(main)


def test_a_stream_without_a_last_event_is_an_error(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        async with pretend(broken=True, log="something happened") as server:
            with pytest.raises(RunnerFailed, match=r"before its final event.*something happened"):
                await events(server)

    run(main)


def test_a_runner_killed_in_mid_stream_is_named_by_its_last_error(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        server = pretend(kill_at=2)
        await server.start()
        seen = []

        async def read() -> None:
            async for event in server.completion({"prompt": "Why"}):
                seen.append(event)

        with pytest.raises(RunnerFailed) as caught:
            await read()
        assert caught.value.message == "out of memory, it says (killed by SIGKILL)"
        assert [event.token for event in seen if isinstance(event, TextChunk)] == [0, 1]
        assert server.has_exited
        with pytest.raises(RunnerFailed, match="killed by SIGKILL"):
            await server.ping()
        await server.close()

    run(main)


def test_a_runner_that_dies_does_not_show_the_requests_of_its_log(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        access = "12:00:01.000 info    POST /completion 200 90 ms 7 tokens id=somebody-elses"
        server = pretend(log=f"12:00:00.000 error   the disk is full\n{access}")
        await server.start()
        assert server.pid
        os.kill(server.pid, signal.SIGKILL)
        await server.wait()
        with pytest.raises(RunnerFailed) as caught:
            await server.ping()
        assert caught.value.message == "the disk is full (killed by SIGKILL)"

    run(main)


def test_a_runner_gets_the_hub_token_only_to_fetch_its_model(
    pretend: Callable[..., Server], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret")
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("OTHERS_PASSWORD", "secret")

    async def variables_of(server: Server) -> dict[str, str]:
        started: dict[str, str] = {}

        async def start(*command: str, env: dict[str, str], **rest: Any) -> None:
            started.update(env)
            raise OSError("enough has been seen")

        with monkeypatch.context() as patched:
            patched.setattr("asyncio.create_subprocess_exec", start)
            with pytest.raises(RunnerFailed, match="enough has been seen"):
                await server.start()
        return started

    async def main() -> None:
        here = await variables_of(pretend())
        elsewhere = await variables_of(Server("owner/not-here-yet", "text"))
        assert "HF_TOKEN" not in here
        assert elsewhere["HF_TOKEN"] == "secret"
        for variables in (here, elsewhere):
            assert "OTHERS_PASSWORD" not in variables
            assert variables["PATH"] == os.environ["PATH"]

    run(main)


def test_a_line_may_be_as_long_as_a_large_picture(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        size = 24 * 1024**2
        async with pretend(line=size, events=2) as server:
            stream = await events(server)
            assert [len(event.get("content", "")) for event in stream] == [size, size, 0]

    run(main)


def test_leaving_a_stream_ends_its_work(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        async with pretend(events=10_000, pause=0.01) as server:
            async with contextlib.aclosing(server.completion({"prompt": "Why"})) as stream:
                assert await anext(stream)
                assert (await server.refresh())["active"] == 1
            while (await server.refresh())["active"]:  # noqa: ASYNC110 - another process is waited for
                await asyncio.sleep(0.01)

    run(main)


def test_many_requests_share_the_connections(pretend: Callable[..., Server]) -> None:
    async def main() -> None:
        async with pretend() as server:
            streams = await asyncio.gather(*(events(server) for _ in range(50)))
            assert all(len(one) == 4 for one in streams)
            assert await server.tokenize("four") == [4]

    run(main)


def test_a_runner_that_takes_no_interrupt_is_killed(
    pretend: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.process.supervisor.KILL_AFTER_S", 0.3)

    async def main() -> None:
        server = pretend(stubborn=True)
        await server.start()
        await server.close()
        assert server.has_exited
        assert (await server.wait()).endswith("(killed by SIGKILL)")

    run(main)


def test_a_runner_that_hangs_fails_its_ping(
    pretend: Callable[..., Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.process.supervisor.HEALTH_TIMEOUT", 0.3)

    async def main() -> None:
        server = pretend()
        await server.start()
        assert server.pid
        os.kill(server.pid, signal.SIGSTOP)
        with pytest.raises(RunnerFailed, match=r"has not answered for 0\.3 s"):
            await server.ping()
        await server.kill()

    run(main)


def test_a_server_that_is_not_started_says_so() -> None:
    async def main() -> None:
        with pytest.raises(RunnerFailed, match="has not been started"):
            await Server("anything").ping()

    run(main)


# -- what is known without a process


def test_the_estimate_is_the_declared_bytes_and_8_gib_when_there_are_none(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "model", weights=123_456)
    assert Server(str(model)).estimated_vram == 123_456
    assert Server(str(tmp_path / "missing")).estimated_vram == 8 * GIB
    (model / "model.safetensors").write_bytes(b"\0" * 20)
    assert Server(str(model)).estimated_vram == 8 * GIB
    for name in ("", "a\0b", "../..", "x" * 10_000, "hf:", "folder:"):
        assert Server(name).estimated_vram == 8 * GIB


def test_an_index_says_what_shards_that_cannot_be_read_hold(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "model")
    index = model / "model.safetensors.index.json"
    shards = {"w": "model-00001-of-00001.safetensors"}
    index.write_text(json.dumps({"metadata": {"total_size": 123_456}, "weight_map": shards}))
    assert Server(str(model)).estimated_vram == 123_456
    for size in (-1, 0, 1.5, "many", 10**30, None):
        index.write_text(json.dumps({"metadata": {"total_size": size}, "weight_map": shards}))
        assert Server(str(model)).estimated_vram == 8 * GIB


def test_no_other_program_can_take_its_port_between_choosing_and_binding() -> None:
    """While another takes one free port after another."""
    taken: list[socket.socket] = []
    stopping = threading.Event()

    def take() -> None:
        while not stopping.wait(0.001):
            taken.append(socket.create_server(("127.0.0.1", 0)))
            if len(taken) > 200:
                taken.pop(0).close()

    async def main() -> None:
        async with Server(str(toy_text())) as server:
            assert await server.tokenize("hello")
            with pytest.raises(OSError, match="in use"):
                socket.create_server(("127.0.0.1", server.port or 0))

    taker = threading.Thread(target=take)
    taker.start()
    try:
        run(main)
    finally:
        stopping.set()
        taker.join()
        for one in taken:
            one.close()


@pytest.mark.parametrize(
    ("system", "machine", "allowed"),
    [
        ("darwin", "arm64", True),
        ("linux", "x86_64", True),
        ("linux", "aarch64", True),
        ("win32", "AMD64", True),
        ("darwin", "x86_64", False),
        ("freebsd14", "amd64", False),
    ],
)
def test_platforms_are_refused_by_name(system: str, machine: str, allowed: bool) -> None:
    if allowed:
        check_platform(system, machine)
    else:
        with pytest.raises(ModelNotSupported, match=machine if system == "darwin" else system):
            check_platform(system, machine)


def test_the_load_timeout_comes_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_LOAD_TIMEOUT", "soon")
    with pytest.raises(BadRequest, match="DIPTYCH_LOAD_TIMEOUT: 'soon' is not a duration"):
        Server("anything")


def test_what_cannot_be_sent_is_refused_before_it_is(pretend: Callable[..., Server]) -> None:
    circle: dict[str, Any] = {}
    circle["itself"] = circle
    wrong = [
        {"options": {"temperature": float("nan")}},
        {"options": {"stop": ["a", float("inf")]}},
        {"prompt": object()},
        {"prompt": "\ud800"},
        circle,
    ]

    async def main() -> None:
        async with pretend() as server:
            for request in wrong:
                with pytest.raises(BadRequest):
                    await anext(server.completion(request))
            with pytest.raises(BadRequest, match="control characters"):
                await anext(server.completion({"prompt": "x"}, id="mine\r\nHost: elsewhere"))
            assert await server.tokenize("hello") == [5]

    run(main)


def test_a_mode_that_is_none_is_refused() -> None:
    assert Server("anything", "image").mode == "image"
    with pytest.raises(BadRequest, match="mode: 'video' is not allowed; it must be text or image"):
        Server("anything", "video")


def test_errors_are_one_family() -> None:
    assert issubclass(Busy, DiptychError)
