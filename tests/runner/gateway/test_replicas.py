"""Several runners of a picture model behind one name, over runners that behave as they are told; and two real ones."""

import asyncio
import json
import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from runner.errors import BadRequest
from runner.gateway import gpus
from runner.gateway.gpus import cards_for
from runner.gateway.resolver import ModelResolver, ResolvedModel
from runner.gateway.settings import Settings
from runner.hardware import visible_cards
from runner.inspect.image_backend import ImageEngine
from tests.pipelines import toys
from tests.runner.gateway.live import Gateway, Streaming, gone
from tests.runner.live import events
from tests.runner.pretend import pretend_model


def pretend_pictures(folder: Path, **behaviour: Any) -> Path:
    """A model that by its files makes pictures."""
    pretend_model(folder, **behaviour)
    (folder / "transformer").mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).rename(folder / "transformer" / name)
    index = {"_class_name": "FluxPipeline", "transformer": ["diffusers", "FluxTransformer2DModel"]}
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def replicas(gateway: Gateway, name: str = "m") -> list[dict[str, Any]]:
    status = gateway.models().get(name, {}).get("replicas", [])
    assert isinstance(status, list)
    return status


def looked_up(folder: str, **settings: Any) -> ResolvedModel:
    return asyncio.run(ModelResolver(Settings(models=(folder,), **settings)).resolve(folder))


def test_requests_go_to_the_least_busy_runner(tmp_path: Path) -> None:
    folder = pretend_pictures(tmp_path / "m", events=4)
    with Gateway({"m": folder}, replicas=2, grace=0.5) as gateway:
        first, second = Streaming(gateway, "m", held=True), Streaming(gateway, "m", held=True)
        pids = {first.seen[0]["pid"], second.seen[0]["pid"]}
        assert len(pids) == 2
        assert {one["pid"] for one in replicas(gateway)} == pids
        assert [one["active"] for one in replicas(gateway)] == [1, 1]
        assert gateway.models()["m"]["active"] == 2
        quick = events(gateway.ask("m", events=1))
        assert quick[0]["pid"] in pids
        assert [one["active"] for one in replicas(gateway)] == [1, 1]
        gateway.http.post("/models/stop", json={"model": "m"})
        assert gateway.stop() == 0
    assert all(map(gone, pids))


def test_one_that_dies_is_followed_by_another_while_the_others_serve(tmp_path: Path) -> None:
    folder = pretend_pictures(tmp_path / "m")
    with Gateway({"m": folder}, replicas=2) as gateway:
        doomed, other = Streaming(gateway, "m", held=True), Streaming(gateway, "m", held=True)
        victim = doomed.seen[0]["pid"]
        os.kill(victim, signal.SIGKILL)
        assert "killed by SIGKILL" in doomed.last()["error"]
        assert events(gateway.ask("m", events=1))[0]["pid"] == other.seen[0]["pid"]
        gateway.wait_until(lambda: all(one["ready"] for one in replicas(gateway)))
        assert victim not in {one["pid"] for one in replicas(gateway)}
        assert events(gateway.ask("m", events=1))[0]["pid"] != other.seen[0]["pid"], (
            "it is idle, the other busy"
        )
        assert gateway.metric("diptych_crashes_total") == 1
        assert gateway.metric("diptych_loads_total") == 1
        assert "runner 1 of 2" in gateway.log or "runner 2 of 2" in gateway.log


def test_one_that_answers_nothing_is_killed_and_followed_by_another(tmp_path: Path) -> None:
    folder = pretend_pictures(tmp_path / "m")
    with Gateway({"m": folder}, replicas=2, health_timeout=2, unresponsive=2) as gateway:
        gateway.events("m")
        stuck, other = (one["pid"] for one in replicas(gateway))
        os.kill(stuck, signal.SIGSTOP)
        gateway.wait_until(lambda: stuck not in {one["pid"] for one in replicas(gateway)}, 60)
        gateway.wait_until(lambda: all(one["ready"] for one in replicas(gateway)), 60)
        assert other in {one["pid"] for one in replicas(gateway)}
        assert "did not answer its health check" in gateway.log


def test_when_none_is_left_the_model_has_died_and_is_loaded_anew(tmp_path: Path) -> None:
    folder = pretend_pictures(tmp_path / "m")
    with Gateway({"m": folder}, replicas=2) as gateway:
        gateway.events("m")
        before = [one["pid"] for one in replicas(gateway)]
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        gateway.wait_until(lambda: "m" not in gateway.models())
        assert gateway.events("m")[-1]["done"]
        assert not {one["pid"] for one in replicas(gateway)} & set(before)


def test_one_that_cannot_be_loaded_ends_all_with_its_reason(tmp_path: Path) -> None:
    folder = pretend_pictures(tmp_path / "m", die=[1, "no such weights"])
    with Gateway({"m": folder}, replicas=3) as gateway:
        response = gateway.ask("m")
        assert response.status_code == 500
        assert "no such weights" in response.json()["error"]
        assert gateway.models() == {}


def test_a_text_model_has_one_runner(tmp_path: Path) -> None:
    folder = pretend_model(tmp_path / "t")
    with Gateway({"t": folder}, replicas=2) as gateway:
        gateway.events("t")
        assert "replicas" not in gateway.models()["t"]
    with pytest.raises(BadRequest, match="replicas is for models that make pictures"):
        looked_up(str(folder), replicas_of=lambda model: 2)


def test_on_a_processor_replicas_share_it_and_need_as_many_times_its_memory(tmp_path: Path) -> None:
    folder = str(pretend_pictures(tmp_path / "m"))
    one = looked_up(folder)
    three = looked_up(folder, replicas=2, replicas_of=lambda model: 3)
    assert (one.replicas, three.replicas, three.cards) == (1, 3, ())
    assert three.need.resident == 3 * one.need.resident


@pytest.fixture
def two_cards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "on_gpu", lambda engine: True)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab")


@pytest.mark.usefixtures("two_cards")
def test_each_has_a_card_of_its_own_and_too_few_are_refused(tmp_path: Path) -> None:
    assert visible_cards() == ("3", "GPU-ab")
    assert cards_for(2, ImageEngine.MLX) == ("3", "GPU-ab")
    assert cards_for(1, ImageEngine.TORCH) == ()
    with pytest.raises(BadRequest, match="replicas = 3 needs as many GPUs; CUDA_VISIBLE_DEVICES lists 2"):
        cards_for(3, ImageEngine.MLX)
    folder = str(pretend_pictures(tmp_path / "m"))
    model = looked_up(folder, replicas=2)
    assert model.cards == ("3", "GPU-ab")
    assert model.need == looked_up(folder).need, "what one card has to hold"


@pytest.mark.usefixtures("two_cards")
def test_a_mac_has_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus.sys, "platform", "darwin")
    with pytest.raises(BadRequest, match="a Mac has one"):
        cards_for(2, ImageEngine.MLX)


@pytest.mark.slow
def test_two_real_runners_draw_beside_each_other_and_alike(tmp_path: Path) -> None:
    folder = toys.write("klein", tmp_path / "klein").folder
    body = {"model": "klein", "prompt": "a boat", "width": 64, "height": 48, "steps": 4, "seed": 7}
    with Gateway({"klein": folder}, pretend=False, replicas=2) as gateway, ThreadPoolExecutor(4) as threads:
        answers = list(threads.map(lambda _: events(gateway.http.post("/completion", json=body)), range(4)))
        assert len({answer[-1]["image"] for answer in answers}) == 1
        shown = replicas(gateway, "klein")
        assert len({one["pid"] for one in shown}) == 2
        assert [one["active"] for one in shown] == [0, 0]
