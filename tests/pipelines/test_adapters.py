"""Adapters beside the weights: pictures against the reference's, stored; and that nothing of them stays."""

from collections.abc import Callable
from pathlib import Path

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from msgspec.structs import replace

from models.checkpoint.quantize import Quantization
from models.files import LocalModel
from pipelines.base import AdapterChoice, ImageRequest, PipelineError
from pipelines.denoise import DenoisingPipeline
from pipelines.settings import Settings
from tests.pipelines.adapter_files import CASES, FLUX, FORMATS, KLEIN, REQUESTS, Z_IMAGE, choices, toy_of
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, report
from tests.pipelines.toys import REFERENCES

Load = Callable[[str], DenoisingPipeline]


@pytest.fixture(scope="module")
def load(toy: Callable[[str], LocalModel]) -> Load:
    """Each toy loaded once, for all tests that only draw."""
    loaded: dict[str, DenoisingPipeline] = {}

    def load(name: str) -> DenoisingPipeline:
        if name not in loaded:
            loaded[name] = pipeline_class(name).load(toy(name), Settings())
        return loaded[name]

    return load


def picture(pipeline: DenoisingPipeline, toy: str, adapters: tuple[AdapterChoice, ...] = ()) -> np.ndarray:
    (pixels,) = drawn(pipeline.generate(replace(REQUESTS[toy], adapters=adapters)))
    return pixels


def adapter(name: str, folder: Path, scale: float = 1.0) -> AdapterChoice:
    return choices({name: scale}, folder)[0]


@pytest.mark.parametrize("name", CASES)
def test_adapters_of_a_format_draw_the_stored_picture(name: str, load: Load, tmp_path: Path) -> None:
    case = CASES[name]
    with np.load(REFERENCES / "adapters.npz") as pictures:
        expected = pictures[name]
    toy = toy_of(case)
    assert_same(picture(load(toy), toy, choices(case, tmp_path)), expected)


@pytest.mark.parametrize("name", [FLUX, KLEIN, Z_IMAGE])
def test_a_picture_without_adapters_is_the_same_before_and_after_one(
    name: str, load: Load, tmp_path: Path
) -> None:
    form = next(key for key, form in FORMATS.items() if form.toy == name)
    plain = picture(load(name), name)
    changed = picture(load(name), name, (adapter(form, tmp_path),))
    assert (plain != changed).mean() > 0.5
    assert (picture(load(name), name) == plain).all()


def test_a_scale_of_nothing_changes_nothing(load: Load, tmp_path: Path) -> None:
    plain = picture(load(KLEIN), KLEIN)
    assert (picture(load(KLEIN), KLEIN, (adapter("klein, kohya", tmp_path, 0.0),)) == plain).all()


def test_two_of_half_the_scale_are_one(load: Load, tmp_path: Path) -> None:
    """The same changes, in the one file and in two."""
    whole = picture(load(KLEIN), KLEIN, (adapter("klein, LoKr", tmp_path),))
    halves = tuple(
        AdapterChoice(name, adapter("klein, LoKr", tmp_path / name).path, 0.5) for name in ("first", "second")
    )
    assert_same(picture(load(KLEIN), KLEIN, halves), whole)


def test_an_adapter_of_an_encoder_encodes_a_cached_prompt_again(load: Load, tmp_path: Path) -> None:
    pipeline = load(FLUX)
    (plain,) = pipeline.encode_prompts(["a boat"])
    pipeline.use_adapters((adapter("flux, kohya", tmp_path),))
    (changed,) = pipeline.encode_prompts(["a boat"])
    pipeline.use_adapters(())
    (again,) = pipeline.encode_prompts(["a boat"])
    assert not mx.array_equal(plain.states[1], changed.states[1])
    assert again is plain


@pytest.mark.parametrize("quantized", [4, "mxfp8"])
def test_quantized_layers_have_adapters_beside_them(
    quantized: int | str, toy: Callable[[str], LocalModel], tmp_path: Path
) -> None:
    """What an adapter adds to a layer's output does not depend on how the layer's weights are held."""
    settings = Settings(quantization=Quantization.parse(quantized))
    pipeline = pipeline_class("klein heavy").load(toy("klein heavy"), settings)
    attention = pipeline.transformer().single_transformer_blocks[0].attn
    layer = attention.to_out
    assert isinstance(layer, nn.QuantizedLinear)
    outputs, inputs = layer.weight.shape[0], layer.weight.shape[1] * 32 // layer.bits
    x = mx.random.normal((1, 3, inputs), key=mx.random.key(1))
    down = mx.random.normal((4, inputs), key=mx.random.key(2))
    up = mx.random.normal((outputs, 4), key=mx.random.key(3))
    file, key = tmp_path / "adapter.safetensors", "diffusion_model.single_blocks.0.linear2"
    mx.save_safetensors(str(file), {f"{key}.lora_A.weight": down, f"{key}.lora_B.weight": up})
    pipeline.use_adapters((AdapterChoice("one", file, 0.5),))
    assert mx.allclose(attention.to_out(x) - layer(x), 0.5 * (x @ down.T) @ up.T, rtol=1e-3, atol=1e-2)
    pipeline.use_adapters(())
    assert attention.to_out is layer


def test_a_staged_model_has_adapters_after_each_load(
    toy: Callable[[str], LocalModel], tmp_path: Path
) -> None:
    staged = pipeline_class(FLUX).load(toy(FLUX), Settings(memory="staged"))
    case = CASES["flux, kohya"]
    with np.load(REFERENCES / "adapters.npz") as pictures:
        expected = pictures["flux, kohya"]
    chosen = choices(case, tmp_path)
    assert_same(picture(staged, FLUX, chosen), expected)
    picture(staged, FLUX)
    assert_same(picture(staged, FLUX, chosen), expected)


def test_another_adapter_of_the_same_ranks_needs_no_other_compiled_step(
    toy: Callable[[str], LocalModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled = []
    compile = mx.compile
    monkeypatch.setattr(
        mx, "compile", lambda *step, **inputs: compiled.append(step) or compile(*step, **inputs)
    )
    pipeline = pipeline_class(KLEIN).load(toy(KLEIN), Settings(compiled=True))
    one = adapter("klein, kohya", tmp_path)
    tensors = {key: 1.1 * value for key, value in mx.load(str(one.path)).items()}
    other = tmp_path / "other.safetensors"
    mx.save_safetensors(str(other), tensors)
    first = picture(pipeline, KLEIN, (one,))
    second = picture(pipeline, KLEIN, (AdapterChoice("other", other),))
    assert len(compiled) == 1
    plain = picture(pipeline, KLEIN)
    assert len(compiled) == 2  # the step without adapters
    assert (picture(pipeline, KLEIN, (one,)) == first).all()
    assert (picture(pipeline, KLEIN, (AdapterChoice("other", other, 0.7),)) != second).any()
    assert (picture(pipeline, KLEIN) == plain).all()
    assert len(compiled) == 2


def test_adapters_are_read_once_and_dropped_beyond_the_limit(
    toy: Callable[[str], LocalModel], tmp_path: Path
) -> None:
    one, other = adapter("klein, kohya", tmp_path / "a"), adapter("klein, ai-toolkit", tmp_path / "b")
    pipeline = pipeline_class(KLEIN).load(toy(KLEIN), Settings(adapter_bytes=0))
    pipeline.use_adapters((one, other))
    both = pipeline.adapters.nbytes
    pipeline.use_adapters((one,))
    assert 0 < pipeline.adapters.nbytes < both
    pipeline.use_adapters(())
    assert pipeline.adapters.nbytes == 0
    kept = pipeline_class(KLEIN).load(toy(KLEIN), Settings())
    kept.use_adapters((one, other))
    kept.use_adapters(())
    assert kept.adapters.nbytes == both


def test_a_file_that_is_replaced_is_read_again(load: Load, tmp_path: Path) -> None:
    first = picture(load(KLEIN), KLEIN, (adapter("klein, kohya", tmp_path),))
    replaced = FORMATS["klein, ai-toolkit"].write(adapter("klein, kohya", tmp_path).path)
    second = picture(load(KLEIN), KLEIN, (AdapterChoice("klein, kohya", replaced),))
    assert (first != second).any()


def test_a_file_that_is_gone_is_an_error_with_its_name(load: Load, tmp_path: Path) -> None:
    with pytest.raises(PipelineError, match="loras: gone cannot be read: No such file"):
        load(KLEIN).use_adapters((AdapterChoice("gone", tmp_path / "gone.safetensors"),))


def test_a_refused_adapter_leaves_those_before_in_place(load: Load, tmp_path: Path) -> None:
    pipeline = load(KLEIN)
    changed = picture(pipeline, KLEIN, (adapter("klein, kohya", tmp_path),))
    with pytest.raises(PipelineError, match=r"does not belong to this model \(FLUX.2 klein\)"):
        pipeline.use_adapters((adapter("z-image, musubi", tmp_path),))
    assert (picture(pipeline, KLEIN, (adapter("klein, kohya", tmp_path),)) == changed).all()


def test_an_adapter_that_stores_a_layer_fused_and_in_parts_has_its_parts_used(
    load: Load, tmp_path: Path
) -> None:
    parts = FORMATS["z-image, musubi"].tensors()
    fused = FORMATS["z-image, fused"].tensors()
    doubled = {key: mx.array(value) for key, value in {**fused, **parts}.items() if "layers.1" not in key}
    path = tmp_path / "doubled.safetensors"
    mx.save_safetensors(str(path), doubled)
    expected = picture(load(Z_IMAGE), Z_IMAGE, (adapter("z-image, musubi", tmp_path),))
    chosen = replace(REQUESTS[Z_IMAGE], adapters=(AdapterChoice("doubled", path),))
    events = list(load(Z_IMAGE).generate(chosen))
    assert_same(drawn(events)[0], expected)
    assert "doubled stores 2 layers twice, fused and in parts; the parts are used" in report(events).warnings


def test_a_request_without_adapters_makes_no_table_of_names(toy: Callable[[str], LocalModel]) -> None:
    pipeline = pipeline_class(KLEIN).load(toy(KLEIN), Settings())
    list(pipeline.generate(ImageRequest("a boat", 1, width=32, height=32, steps=1)))
    assert "adapters" not in vars(pipeline)
