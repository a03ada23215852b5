"""Whether a model fits, and what is in its way."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from runner.errors import BadRequest, ModelNotSupported, NotEnoughMemory
from runner.gateway import estimate
from runner.gateway.admission import Admission
from runner.gateway.estimate import Need, need, option
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.resolver import ResolvedModel
from runner.inspect.memory import TEXT_ALLOWANCE
from runner.sources import ModelMode, find
from runner.units import GIB
from tests.runner.checkpoints import image_files, safetensors, text_files, write
from tests.runner.pretend import pretend_model


def resolved(
    resident: int, staged: int | None = None, smallest: int | None = None, *options: str
) -> ResolvedModel:
    mode = ModelMode.TEXT if staged is None else ModelMode.IMAGE
    staged = staged or resident
    return ResolvedModel("m", "hf:m", mode, Need(resident, staged, smallest or staged, 1), options)


def running(held: int, began: float = 0, phase: Phase = Phase.READY) -> LoadedModel:
    return cast(LoadedModel, SimpleNamespace(held=held, began=began, phase=phase))


def test_what_fits_beside_the_others_is_let_in() -> None:
    admission = Admission(100)
    assert admission.fits(40, [running(30), running(30)])
    assert not admission.fits(41, [running(30), running(30)])
    assert not Admission(100, most=2).fits(1, [running(1), running(1)])


def test_alone_it_has_whatever_there_is() -> None:
    assert Admission(100, force=True).fits(1000, [])


def test_as_few_as_possible_are_in_the_way_and_the_longest_loaded_first() -> None:
    old, middle, new = running(30, began=1), running(30, began=2), running(30, began=3)
    assert Admission(100).to_evict(10, [new, old, middle]) == []
    assert Admission(100).to_evict(40, [new, old, middle]) == [old]
    assert Admission(100).to_evict(60, [new, old, middle]) == [old, middle]
    assert Admission(100, most=2).to_evict(1, [new, old]) == [old]


def test_those_that_are_ending_count_as_gone_already() -> None:
    old, ending = running(30, began=1), running(30, began=9, phase=Phase.ENDING)
    assert Admission(60).to_evict(30, [old, ending]) == [ending]


@pytest.mark.parametrize(
    ("model", "helps"),
    [
        (resolved(200), "--force loads it all the same"),
        (resolved(200, 90, 50, "--memory", "resident"), "with memory = staged it needs 90 bytes"),
        (resolved(400, 300, 50), "with quantize = 4 and memory = staged it needs 50 bytes"),
        (resolved(400, 300, 200), "--force loads it all the same"),
    ],
)
def test_what_never_fits_is_told_both_numbers_and_what_would_help(model: ResolvedModel, helps: str) -> None:
    with pytest.raises(NotEnoughMemory) as caught:
        Admission(100).check(model)
    assert f"m needs about {Admission(100).needs(model)} bytes" in caught.value.message
    assert "models may take 100 bytes in all" in caught.value.message
    assert caught.value.message.endswith(helps)
    Admission(100, force=True).check(model)


def test_a_picture_model_that_does_not_fit_as_a_whole_is_staged_unless_somebody_said_how() -> None:
    admission = Admission(100)
    assert admission.stage(resolved(200, 90))
    assert admission.needs(resolved(200, 90)) == 90
    assert not admission.stage(resolved(80, 60))
    assert not admission.stage(resolved(200, 90, None, "--memory", "resident"))
    admission.check(resolved(200, 90))


def test_a_text_reports_less_than_its_estimate_and_a_picture_model_is_not_believed_to() -> None:
    text = LoadedModel(resolved(1000), cast(Any, None), 1000, 0)
    text.report(200)
    assert text.held == 201
    text.report(700)
    assert text.held == 700
    picture = LoadedModel(resolved(1000, 600), cast(Any, None), 1000, 0)
    picture.report(200)
    assert picture.held == 1000
    picture.report(1500)
    assert picture.held == 1500


def test_the_next_time_what_was_learned_counts() -> None:
    admission = Admission(2000)
    life = LoadedModel(resolved(1000), cast(Any, None), 1000, 0)
    life.report(200)
    admission.learn(life)
    assert admission.needs(resolved(1000)) == 201


def test_needs_come_from_the_declared_sizes(tmp_path: Path) -> None:
    text = pretend_model(tmp_path / "text", 10 * GIB)
    estimate = need(find(str(text)), ModelMode.TEXT, ())
    assert estimate.resident == estimate.staged == 10 * GIB + TEXT_ALLOWANCE
    picture = write(tmp_path / "picture", image_files())
    estimate = need(find(str(picture)), ModelMode.IMAGE, ())
    assert estimate.smallest <= estimate.staged < estimate.resident
    (text / "model.safetensors").write_bytes(b"nonsense")
    with pytest.raises(ModelNotSupported, match=r"model\.safetensors"):
        need(find(str(text)), ModelMode.TEXT, ())


def test_a_text_model_over_several_devices_needs_its_share_of_each(tmp_path: Path) -> None:
    weights = {"model.embed_tokens.weight": ("F32", (16, 8)), "model.layers.0.mlp.weight": ("F32", (64, 8))}
    files = find(str(write(tmp_path, text_files(weights))))
    whole = need(files, ModelMode.TEXT, ())
    half = need(files, ModelMode.TEXT, ("--tensor-parallel", "2"))
    assert whole.resident - half.resident == 64 * 8 * 4 // 2


def test_a_draft_model_counts_beside_the_model_that_it_drafts_for(tmp_path: Path) -> None:
    large, small = write(tmp_path / "large", text_files()), write(tmp_path / "small", text_files())
    alone = need(find(str(large)), ModelMode.TEXT, ())
    both = need(find(str(large)), ModelMode.TEXT, ("--draft", str(small)))
    assert both.resident == 2 * alone.resident
    missing = need(find(str(large)), ModelMode.TEXT, ("--draft", "owner/not-here"))
    assert missing == alone, "it is downloaded first; how large it is is not known yet"


def test_options_are_found_in_either_spelling() -> None:
    assert option(("--dtype", "float32", "--memory=staged"), "dtype") == "float32"
    assert option(("--dtype", "float32", "--memory=staged"), "memory") == "staged"
    assert option(("--dtype",), "dtype") is None


QUANTIZED = {
    "layer.weight": ("U32", (64, 16)),
    "layer.scales": ("BF16", (64, 2)),
    "layer.biases": ("BF16", (64, 2)),
}
PACKED_BYTES, UNPACKED_BYTES = 64 * 16 * 4 + 2 * 64 * 2 * 2, 64 * 128 * 4


def test_quantized_weights_are_counted_in_float32_where_a_processor_has_room_to_unpack_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(estimate, "has_gpu_backend", lambda: False)
    files = find(str(write(tmp_path, text_files() | {"model.safetensors": safetensors(QUANTIZED)})))
    actual = need(files, ModelMode.TEXT, ())
    assert actual.resident == UNPACKED_BYTES + actual.allowance
    assert actual.packed is not None
    model = ResolvedModel("m", "hf:m", ModelMode.TEXT, actual, ())
    roomy, tight = Admission(actual.resident), Admission(actual.resident - 1)
    assert roomy.needs(model) == actual.resident
    assert tight.needs(model) == actual.packed.resident < actual.resident
    assert tight.options(model) == ["--room", str(tight.budget)], "its runner decides by the same number"
    tight.check(model)
    kept = need(files, ModelMode.TEXT, ("--dtype", "checkpoint"))
    assert kept.packed is None
    assert kept.resident == PACKED_BYTES + kept.allowance


def test_a_quantized_picture_model_is_held_in_turn_rather_than_packed() -> None:
    packed = Need(30, 20, 10, 1)
    model = ResolvedModel("m", "hf:m", ModelMode.IMAGE, Need(100, 60, 10, 1, packed), ())
    assert Admission(100).needs(model) == 100
    assert Admission(60).needs(model) == 60
    assert Admission(60).options(model) == ["--memory", "staged", "--room", "60"]
    assert Admission(59).needs(model) == 30
    assert Admission(59).options(model) == ["--room", "59"]
    at_once = ResolvedModel(
        "m", "hf:m", ModelMode.IMAGE, Need(100, 60, 10, 1, packed), ("--memory", "resident")
    )
    assert Admission(99).needs(at_once) == 30


def test_adapters_of_a_language_model_are_held_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(bytes(1000))
    (tmp_path / "more.gguf").write_bytes(bytes(200))
    files = find(str(write(tmp_path / "text", text_files())))
    plain = need(files, ModelMode.TEXT, ())
    options = ("--lora", f"{folder}:0.5", "--lora", str(tmp_path / "more.gguf"))
    assert need(files, ModelMode.TEXT, options).resident == plain.resident + 1200
    with pytest.raises(BadRequest, match="neither a file nor a folder"):
        need(files, ModelMode.TEXT, ("--lora", str(tmp_path / "gone")))
