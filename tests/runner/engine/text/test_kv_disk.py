"""Keys and values are on disk after a stop, and the next start reads them: the same text, and nothing computed twice."""

import asyncio
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models.language.paged.table import BLOCK
from runner.engine.text import kv_disk
from runner.engine.text.kv_disk import folder_name
from runner.engine.text.worker import TextSettings
from runner.process.supervisor import KILL_AFTER_S, WRITE_S, Server
from tests import ROOT
from tests.runner.live import Event, Live, complete, in_process, text
from tests.toys import toy_text
from tests.waiting import PATIENCE, wait_until

MIB = 1024**2
PROMPT = "The sea is blue and wide, and boats go out to it. " * 150


@pytest.fixture(autouse=True)
def no_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A busy machine's disk may take longer than a stop is given."""
    monkeypatch.setattr(kv_disk, "WRITE_S", PATIENCE)
    monkeypatch.setattr(kv_disk, "CLOSE_S", PATIENCE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "kv"


def settings(folder: Path, **more: Any) -> TextSettings:
    return TextSettings(**{"kv_disk": 200 * MIB, "kv_disk_folder": str(folder), **more})


def blocks(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.kv"))


async def ask(client: httpx2.AsyncClient, prompt: str = PROMPT) -> tuple[Event, str]:
    events = await complete(client, prompt, num_predict=8)
    return events[-1], text(events)


def run(model: Path, settings: TextSettings, *prompts: str) -> tuple[list[tuple[Event, str]], dict[str, Any]]:
    """A runner's life: the answers, and its status before it stops."""

    async def life() -> tuple[list[tuple[Event, str]], dict[str, Any]]:
        async with in_process(model, settings) as client:
            answers = [await ask(client, prompt) for prompt in prompts or (PROMPT,)]
            return answers, (await client.get("/v1/status")).json()

    result = asyncio.run(life())
    wait_until(lambda: not {"gpu", "kv-disk-write"} & {thread.name for thread in threading.enumerate()})
    return result


@pytest.mark.parametrize(("family", "more"), [("qwen3", {}), ("gemma3", {}), ("llama", {"kv_bits": 8})])
def test_a_stop_and_a_start_keep_a_prompt(folder: Path, family: str, more: dict[str, Any]) -> None:
    model = toy_text(family, head_dim=64)
    ((first, written),), status = run(model, settings(folder, **more))
    assert first["prompt_eval_count"] > 2000
    assert (first["cached"], status["kv_disk_files"], status["kv_disk_limit"]) == (0, 0, 200 * MIB)
    count = len(blocks(folder))
    assert count == (first["prompt_eval_count"] + first["eval_count"] - 1) // BLOCK

    ((second, again),), status = run(model, settings(folder, **more))
    assert again == written
    assert second["cached"] == (second["prompt_eval_count"] - 1) // BLOCK * BLOCK
    assert status["kv_disk_hits"] == second["cached"] // BLOCK
    assert status["kv_disk_files"] == count


def test_what_leaves_memory_is_found_on_disk(folder: Path) -> None:
    """Memory holds little more than one prompt."""
    others = [f"{number} other boats. " * 300 for number in range(3)]
    small = settings(folder, cache_bytes=MIB)
    answers, status = run(toy_text(), small, PROMPT, *others, PROMPT)
    assert status["kv_disk_written"] > 0
    assert answers[-1][0]["cached"] > 1000
    assert status["kv_disk_hits"] > 0
    assert answers[-1][1] == answers[0][1]


@pytest.mark.parametrize("damage", ["cut", "flipped", "replaced by a link", "removed"])
def test_damaged_files_are_computed_again(folder: Path, damage: str) -> None:
    ((_, written),), _ = run(toy_text(), settings(folder))
    for path in blocks(folder)[::2]:
        content = bytearray(path.read_bytes())
        if damage == "cut":
            path.write_bytes(content[: len(content) // 2])
        elif damage == "flipped":
            content[len(content) // 2] ^= 16
            path.write_bytes(content)
        else:
            path.unlink()
        if damage == "replaced by a link":
            path.symlink_to("/etc/passwd")
    before = len(blocks(folder))
    ((done, again),), status = run(toy_text(), settings(folder))
    assert again == written
    assert done["cached"] < done["prompt_eval_count"] - BLOCK
    assert (status["kv_disk_damaged"] > 0) == (damage != "removed")
    # All of them are there again.
    ((done, again),), _ = run(toy_text(), settings(folder))
    assert again == written
    assert before <= len(blocks(folder))
    assert done["cached"] == (done["prompt_eval_count"] - 1) // BLOCK * BLOCK


def test_another_setting_or_model_never_uses_the_files(folder: Path) -> None:
    model = toy_text(head_dim=64)
    run(model, settings(folder))
    ((other, _),), status = run(model, settings(folder, kv_bits=8))
    assert (other["cached"], status["kv_disk_hits"]) == (0, 0)
    ((other, _),), status = run(toy_text("llama"), settings(folder))
    assert (other["cached"], status["kv_disk_hits"]) == (0, 0)
    assert len(list(folder.iterdir())) == 2


def test_the_limit_holds(folder: Path) -> None:
    run(toy_text(), settings(folder, kv_disk=MIB))
    assert 0 < sum(path.stat().st_size for path in blocks(folder)) <= MIB


def test_a_limit_below_one_block_is_refused_with_both_numbers(folder: Path) -> None:
    with pytest.raises(
        AssertionError, match=r"--kv-disk: 100 bytes do not hold one block .* at least \d+ are"
    ):
        run(toy_text(), settings(folder, kv_disk=100))


def test_a_folder_that_others_can_write_to_is_not_used(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    model = toy_text()
    place = folder / folder_name(str(model))
    place.mkdir(parents=True)
    place.chmod(0o777)
    ((done, _),), status = run(model, settings(folder))
    assert done["eval_count"] == 8
    assert not blocks(folder)
    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert "--kv-disk has no effect" in warning
    assert "can be written by other users" in warning
    assert any("--kv-disk has no effect" in note for note in status["notes"])


def test_models_without_blocks_say_that_it_has_no_effect(folder: Path) -> None:
    _, status = run(toy_text("qwen3_next"), settings(folder), "The sea")
    assert any("not kept in blocks" in note for note in status["notes"])
    assert status["kv_disk_limit"] == 0


def test_without_a_prefix_cache_it_has_no_effect_and_says_so(folder: Path) -> None:
    _, status = run(toy_text(), settings(folder, cache_bytes=0))
    assert any("--kv-disk has no effect: --cache-bytes" in note for note in status["notes"])
    assert not folder.exists()


def test_a_real_runner_writes_when_it_is_told_to_stop(folder: Path) -> None:
    options = ("--kv-disk", "200MB", "--kv-disk-folder", str(folder))
    with Live(toy_text(), *options) as runner:
        first = runner.complete(PROMPT, num_predict=4)
        runner.ask_to_stop()
        assert runner.process.wait(PATIENCE) == 0
    assert blocks(folder)
    with Live(toy_text(), *options) as runner:
        second = runner.complete(PROMPT, num_predict=4)
        assert second[-1]["cached"] > 0
        assert text(second) == text(first)
        metrics = runner.http.get("/metrics").text
        hits = [line for line in metrics.splitlines() if line.startswith("diptych_kv_disk_hits ")]
        assert float(hits[0].split()[1]) == second[-1]["cached"] // BLOCK


def test_it_is_refused_for_several_devices(folder: Path) -> None:
    """One may have a block that another has lost."""
    arguments = ["--model", str(toy_text()), "--port", "0", "--kv-disk", "1GB", "--tensor-parallel", "2"]
    command = [sys.executable, "-m", "runner", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 1
    assert "--kv-disk cannot be used with --tensor-parallel 2" in done.stderr.splitlines()[-1]


def test_a_runner_that_writes_at_its_end_has_more_time_for_it() -> None:
    waited = []

    class Stopped:
        async def stop(self, kill_after: float) -> None:
            waited.append(kill_after)

    for options in ([], ["--kv-disk", "1GB"], ["--kv-disk=1GB"], ["--kv-memory", "1GB"]):
        server = Server("toy", "text", options=options)
        server._child = Stopped()  # type: ignore[assignment]
        asyncio.run(server.close())
    assert waited == [KILL_AFTER_S, KILL_AFTER_S + WRITE_S, KILL_AFTER_S + WRITE_S, KILL_AFTER_S]
