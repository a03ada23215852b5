"""`diptych pull` against a hub on this machine, also as a process that is interrupted."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runner.sources import find, hub_api, hub_download
from runner.sources.hub import cache_folder
from tests import ROOT
from tests.hub_server import HubServer
from tests.runner.checkpoints import safetensors, text_files
from tests.runner.cli.commands.run import Diptych
from tests.runner.cli.commands.terminal import CTRL_C, Terminal
from tests.waiting import PATIENCE, wait_until

BIG = safetensors({"model.embed_tokens.weight": ("F32", (3000, 1000))})


@pytest.fixture
def hub(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    monkeypatch.setattr(hub_download, "PAUSE", 0.001)
    monkeypatch.setattr(hub_api, "LARGE", 1000)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def test_pull_brings_a_model_that_commands_then_find(diptych: Diptych, hub: HubServer) -> None:
    hub.add("owner/name", text_files())
    done = diptych("pull", "owner/name")
    assert done.code == 0
    assert "owner/name is on this machine, " in done.out
    hub.requests.clear()
    assert find("owner/name").source == "hub"
    assert "owner/name" in diptych("list").out
    assert hub.requests == []


def test_pulling_again_brings_what_has_changed_and_nothing_else(diptych: Diptych, hub: HubServer) -> None:
    hub.add("owner/name", text_files())
    diptych("pull", "owner/name")
    hub.requests.clear()
    assert diptych("pull", "owner/name").code == 0
    assert not hub.requests_for("GET", ".safetensors")
    newer = hub.add("owner/name", text_files() | {"config.json": {"model_type": "llama"}})
    assert diptych("pull", "owner/name").code == 0
    assert not hub.requests_for("GET", ".safetensors")
    assert diptych("list", "--json").json["models"][0]["digest"] == newer.commit


def test_pull_as_json_says_how_far_it_is_a_line_at_a_time(diptych: Diptych, hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    lines = [json.loads(line) for line in diptych("pull", "hf:owner/name", "--json").out.splitlines()]
    assert lines[-1]["name"] == "owner/name"
    assert Path(lines[-1]["path"]).is_dir()
    assert lines[-2]["done"] == lines[-2]["total"] == lines[-1]["bytes"]


def test_a_model_that_cannot_be_run_is_refused_before_it_is_downloaded(
    diptych: Diptych, hub: HubServer
) -> None:
    hub.add("owner/name", text_files() | {"config.json": {"model_type": "no_such"}})
    done = diptych("pull", "owner/name")
    assert (done.code, "no architecture 'no_such'" in done.err) == (1, True)
    assert not hub.requests_for("GET", ".safetensors")
    forced = diptych("pull", "--force", "owner/name")
    assert (forced.code, "owner/name cannot be run: mlx-lm has no architecture" in forced.err) == (0, True)
    lines = diptych("pull", "--force", "--json", "owner/name").out.splitlines()
    assert "no architecture 'no_such'" in json.loads(lines[-1])["fault"]


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("owner/absent", 3, "owner/absent"),
        ("ollama:qwen3", 1, "ollama pull qwen3"),
        ("qwen3:4b", 1, "owner/name"),
        (".", 1, "is a folder"),
    ],
)
def test_what_cannot_be_pulled_is_said(
    diptych: Diptych, hub: HubServer, name: str, code: int, said: str
) -> None:
    done = diptych("pull", name)
    assert (done.code, said in done.err) == (code, True), done.err
    assert "Traceback" not in done.err


def test_an_interrupted_pull_ends_quietly_and_is_continued_by_the_next(
    diptych: Diptych, hub: HubServer
) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 10_000_000
    process = subprocess.Popen(
        [sys.executable, "-m", "runner", "pull", "owner/name"],
        cwd=ROOT,
        env=os.environ.copy(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    blobs = cache_folder() / "models--owner--name" / "blobs"

    def begun() -> bool:
        assert process.poll() is None
        return any(path.stat().st_size for path in blobs.glob("*.diptych.incomplete"))

    wait_until(begun)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=PATIENCE)
    assert process.returncode == 130
    assert "resumes the download" in said
    assert "Traceback" not in said
    assert "Fatal" not in said
    hub.pause_after = None
    assert diptych("pull", "owner/name").code == 0
    assert (hub.requests_for("GET", "/storage/owner/name/model.safetensors")[-1].start or 0) > 0
    assert find("owner/name").listing()["model.safetensors"] == len(BIG)


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_ctrl_c_ends_it(hub: HubServer) -> None:
    hub.add("owner/name", text_files() | {"model.safetensors": BIG})
    hub.pause_after = 10_000_000
    with Terminal("pull", "owner/name") as terminal:
        terminal.until(r"owner/name: +\d+% [^▕]*▕█")
        terminal.type(CTRL_C)
        terminal.until("resumes the download")
        assert terminal.wait() == 130
        assert "Traceback" not in terminal.seen
    hub.pause_after = None
    with Terminal("pull", "owner/name") as terminal:
        terminal.until("owner/name is on this machine")
        assert terminal.wait() == 0
        assert "owner/name: 100%" in terminal.seen
