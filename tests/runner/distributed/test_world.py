"""Where the ranks of a model find each other, and which card each takes."""

import json
import os
from pathlib import Path

import pytest

from runner.distributed import launch
from runner.distributed.launch import World
from runner.errors import BadRequest


@pytest.fixture
def cards(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with MLX's backend for NVIDIA cards."""
    monkeypatch.setattr(launch, "is_installed", lambda name: name in launch.GPU_BACKENDS)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_without_cards_ranks_meet_over_tcp_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launch, "is_installed", lambda name: False)
    with World(3) as world:
        first, last = world.environment(0), world.environment(2)
        assert (world.backend, first["MLX_RANK"], last["MLX_RANK"]) == ("ring", "0", "2")
        hosts = json.loads(Path(last["MLX_HOSTFILE"]).read_text())
        assert len({host for [host] in hosts}) == 3
        assert all(host.startswith("127.0.0.1:") for [host] in hosts)
    assert not Path(last["MLX_HOSTFILE"]).exists()


@pytest.mark.usefixtures("cards")
def test_each_rank_sees_a_card_of_its_own_whatever_the_first_has_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with World(2) as world:
        for name, value in world.environment(0).items():
            monkeypatch.setenv(name, value)
        assert os.environ["CUDA_VISIBLE_DEVICES"] == "0"
        assert world.environment(1) == {
            **world.environment(0),
            "MLX_RANK": "1",
            "CUDA_VISIBLE_DEVICES": "1",
        }
        assert (world.backend, world.environment(1)["MLX_WORLD_SIZE"]) == ("nccl", "2")
        assert world.environment(1)["MLX_USE_CUDA_GRAPHS"] == "0"
        monkeypatch.setenv("MLX_USE_CUDA_GRAPHS", "1")
        assert world.environment(1)["MLX_USE_CUDA_GRAPHS"] == "1", "the user's own choice"


@pytest.mark.usefixtures("cards")
def test_cards_that_are_named_are_taken_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3, GPU-ab12")
    with World(2) as world:
        taken = [world.environment(rank)["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)]
        assert taken == ["3", "GPU-ab12"]
    with World(3) as world, pytest.raises(BadRequest, match="CUDA_VISIBLE_DEVICES lists 2"):
        world.environment(0)


def test_more_ranks_than_any_machine_has_are_refused() -> None:
    with pytest.raises(BadRequest, match="1 to 64"):
        World(65)
