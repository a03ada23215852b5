"""The peers, each in its process, on toys: what they are given is what their classes take."""

import json
from pathlib import Path
from typing import Any

import pytest

from runner.bench.interleave import EngineFailed, in_turn, running, why_missing
from tests.pipelines import toys
from tests.toys import toy_text


def parts(name: str, folder: Path) -> dict[str, Any]:
    toys.write_texts(toys.TOYS[name], folder)
    return {part: json.loads((folder / part / "config.json").read_text()) for part in toys.TOYS[name].parts}


@pytest.mark.slow
@pytest.mark.reference
@pytest.mark.parametrize("name", ["klein", "z-image-turbo", "flux schnell", "qwen-image"])
def test_torch_runs_every_family(name: str, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    with running("torch") as engine:
        engine.ask("build", parts=parts(name, tmp_path), dtype="float32", text_tokens=32)
        run = engine.ask("run", width=64, height=32, steps=2, n=1)
        assert len(run["step"]) == 2
        assert run["encode"][0] > 0
        assert engine.ask("decode", width=64, height=32, strips=False)["seconds"][0] > 0


@pytest.mark.parametrize(
    "name", ["klein", "z-image-turbo", "flux schnell", "qwen-image", "qwen-image-edit-2511"]
)
def test_ours_draws_counts_and_decodes_every_family(name: str, tmp_path: Path) -> None:
    toys.write_texts(toys.TOYS[name], tmp_path)
    build = {
        "folder": str(tmp_path),
        "pipeline": toys.TOYS[name].pipeline,
        "random": True,
        "prompt": "a red circle",
    }
    with running("mlx") as engine:
        assert engine.ask("build", dtype="float32", **build)["dtype"] == "float32"
        drawn = engine.ask("run", width=64, height=32, steps=3, n=2)
        assert drawn["step"][0] > 0
        assert drawn["peak"] > 0
        small, large = (engine.ask("count", width=64, height=32 * times) for times in (1, 4))
        assert large["decode"] > 3 * small["decode"] > 0
        assert large["step"] > small["step"] > 0
        assert large["encode"] == small["encode"] > 0
        assert engine.ask("decode", width=64, height=128, strips=True)["seconds"][0] > 0


def test_an_engine_says_what_is_wrong_and_lives_on() -> None:
    with running("mlx") as engine:
        with pytest.raises(EngineFailed, match="KeyError: 'dtype'"):
            engine.ask("build")
        with pytest.raises(EngineFailed, match="AttributeError"):
            engine.ask("rate")


def test_an_engine_that_ends_leaves_its_last_words() -> None:
    with (
        running("nonsense") as engine,
        pytest.raises(EngineFailed, match=r"nonsense ended \(exit 1\): KeyError"),
    ):
        engine.ask("build")


def test_who_goes_first_changes_from_round_to_round() -> None:
    assert [in_turn(["a", "b", "c"], number)[0] for number in range(4)] == ["a", "b", "c", "a"]


def test_our_own_engine_is_always_there_and_a_missing_one_is_named() -> None:
    assert why_missing("mlx", None) is None
    assert why_missing("mflux", Path("/an/interpreter")) is None


def test_torch_is_refused_by_one_sentence_for_pictures_and_for_texts(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = {"transformers"}
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name if name in installed else None)
    assert why_missing("torch-compile", None) == "torch, diffusers not installed"
    assert why_missing("torch-compile", None, draws=False) == "torch not installed"


@pytest.mark.slow
@pytest.mark.reference
def test_torch_compiled_writes_for_several_rows(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    with running("torch-compile-text") as engine:
        assert engine.ask("build", folder=str(toy_text()), dtype=None)["load"][0] > 0
        for rows in (1, 2):
            prompts = [f"{row} boats in the harbour" for row in range(rows)]
            assert engine.ask("decode", prompts=prompts, tokens=8)["tokens_per_second"] > 0
