"""Commands beside a gateway that is running: `diptych serve` as a process, real runners of toy models."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.pipelines import toys
from tests.processes import RUN
from tests.runner.checkpoints import write
from tests.runner.cli.commands.run import Diptych
from tests.runner.cli.commands.terminal import CTRL_C, CTRL_D, ROOT, Terminal, endless
from tests.runner.conftest import unused_port
from tests.runner.hub_cache import add_repo
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

SHORT = ("--set", "num_predict=8", "--set", "temperature=0")
CONFIG = """
[aliases]
toy = "{toy}"
long = "{long}"
klein = "{klein}"
[models.toy]
context = 2000
[serve]
api_key = "sesame"
"""


@pytest.fixture
def gateway(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[subprocess.Popen[bytes]]:
    """A gateway whose configuration the commands share."""
    monkeypatch.setenv("XDG_STATE_HOME", str(machine / "state"))
    klein = toys.write("klein", machine / "klein").folder
    config = CONFIG.format(toy=toy_text("qwen3"), long=endless(), klein=klein)
    write(machine / "config/diptych", {"config.toml": config.encode()})
    with open(machine / "gateway.log", "wb") as log:
        process = subprocess.Popen([*RUN, "serve"], cwd=ROOT, stdin=subprocess.PIPE, stderr=log)
    try:
        wait_until(lambda: _listens(int(os.environ["DIPTYCH_PORT"])))
        yield process
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def ask(*arguments: str, said: bytes = b"hello") -> str:
    done = subprocess.run(
        [sys.executable, "-m", "runner", "chat", *arguments], cwd=ROOT, input=said, capture_output=True
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def loaded(diptych: Diptych) -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = diptych("ps", "--json").json["models"]
    return models


@pytest.mark.usefixtures("gateway")
def test_a_model_is_asked_by_its_alias_listed_and_stopped(diptych: Diptych) -> None:
    assert "0 models" in diptych("ps").out
    assert ask("toy", *SHORT) == ask("toy", *SHORT)
    (model,) = loaded(diptych)
    assert (model["mode"], model["state"], model["context"]) == ("text", "ready", 2000)
    lines = diptych("ps").out.splitlines()
    assert lines[0].split() == ["NAME", "MAKES", "MEMORY", "STATE", "UNTIL", "QUEUE", "PID"]
    assert lines[1].split()[0] == "toy"
    assert str(model["pid"]) in lines[1]
    stopped = diptych("stop", "toy")
    assert (stopped.code, stopped.out) == (0, "toy: stopped\n")
    assert diptych("stop", "toy").code == 3
    assert diptych("stop", "owner/absent", "--json").json == {"owner/absent": "not loaded"}
    assert loaded(diptych) == []


@pytest.mark.usefixtures("gateway")
def test_a_folder_that_the_gateway_does_not_know_gets_a_runner_of_its_own(diptych: Diptych) -> None:
    assert ask(str(toy_text("llama")), *SHORT)
    assert loaded(diptych) == []


@pytest.mark.usefixtures("gateway")
def test_without_its_key_the_gateway_tells_nothing(diptych: Diptych, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_API_KEY", "wrong")
    done = diptych("ps")
    assert (done.code, "needs its API key" in done.err, "wrong" in done.err) == (1, True, False)
    assert "sesame" not in diptych("config").out + diptych("config", "--json").out


@pytest.mark.usefixtures("gateway")
def test_ctrl_c_frees_the_gateway_and_a_runner_that_dies_is_started_again(diptych: Diptych) -> None:
    with Terminal("chat", "long") as chat:
        chat.until(">>> ")
        chat.type("hello\n")
        chat.until(r"hello\r\n(?s:.){40}")
        chat.type(CTRL_C)
        chat.until(">>> ")
        wait_until(lambda: loaded(diptych)[0]["active"] == 0)
        chat.type("again\n")
        chat.until(r"again\r\n(?s:.){40}")
        os.kill(loaded(diptych)[0]["pid"], signal.SIGKILL)
        chat.until("killed by SIGKILL(?s:.)*>>> ")
        chat.type("/set num_predict 5\n")
        chat.until(">>> ")
        chat.type("and now\n")
        chat.until(r"and now\r\n[^>]+\S[^>]*>>> ")
        chat.type(CTRL_D)
        assert chat.wait() == 0
    assert len(loaded(diptych)) == 1


def test_a_gateway_that_is_killed_is_missed_and_the_conversation_can_be_saved(
    gateway: subprocess.Popen[bytes], machine: Path
) -> None:
    with Terminal("chat", "long") as chat:
        chat.until(">>> ")
        chat.type("hello\n")
        chat.until(r"hello\r\n(?s:.){40}")
        gateway.kill()
        chat.until("no gateway at(?s:.)*>>> ")
        chat.type(f"/save {machine}/talk.json\n")
        chat.until("saved 2 messages(?s:.)*>>> ")
        chat.type(CTRL_D)
        assert chat.wait() == 0


def test_a_gateway_is_found_on_whatever_port_it_runs(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DIPTYCH_PORT")
    write(machine / "config/diptych", {"config.toml": f"[serve]\nport = {unused_port()}".encode()})
    assert diptych("ps").code == 4
    with serving() as first, serving() as second:
        assert diptych("ps", "--json").json["address"] == f"http://127.0.0.1:{second[1]}"
        monkeypatch.setenv("DIPTYCH_PORT", str(first[1]))
        assert diptych("ps", "--json").json["address"] == f"http://127.0.0.1:{first[1]}"
        monkeypatch.delenv("DIPTYCH_PORT")
        second[0].kill()
        second[0].wait()
        assert diptych("ps").out.endswith(f"at http://127.0.0.1:{first[1]}\n")
        first[0].terminate()
        assert first[0].wait(PATIENCE) == 0
        assert diptych("ps").code == 4


@contextlib.contextmanager
def serving() -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A gateway on a port that nobody was told."""
    command = [*RUN, "serve", "--port", "0", str(toy_text())]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout
        yield process, int(process.stdout.readline())
        process.kill()


@pytest.mark.usefixtures("gateway")
def test_pictures_are_drawn_by_the_gateway_unless_the_runner_is_to_be_called_otherwise(
    diptych: Diptych,
) -> None:
    what = (
        "draw",
        "a boat",
        "--model",
        "klein",
        "--width",
        "64",
        "--height",
        "48",
        "--steps",
        "1",
        "--seed",
        "5",
    )
    alone = diptych(*what, "--memory", "resident", "-o", "alone.png")
    assert (alone.code, loaded(diptych)) == (0, []), alone.err
    through = diptych(*what, "-o", "through.png")
    assert (through.out, [model["mode"] for model in loaded(diptych)]) == ("through.png  seed 5\n", ["image"])
    assert Image.open("through.png").tobytes() == Image.open("alone.png").tobytes()
    again = diptych("draw", "--from", "through.png", "-o", "again.png")
    assert (again.code, len(loaded(diptych))) == (0, 1), again.err


@pytest.mark.usefixtures("gateway")
def test_a_model_that_is_loaded_is_not_removed(diptych: Diptych) -> None:
    folder = toy_text("qwen3")
    add_repo("owner/name", {path.name: path.read_bytes() for path in folder.iterdir()})
    ask("owner/name", *SHORT)
    refused = diptych("rm", "-y", "owner/name")
    assert (refused.code, "diptych stop owner/name" in refused.err) == (1, True)
    assert diptych("stop", "hf:owner/name").code == 0
    assert diptych("rm", "-y", "owner/name").code == 0
