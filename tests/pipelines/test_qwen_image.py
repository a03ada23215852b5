"""Qwen-Image against the reference, and what it refuses."""

import shutil

import mlx.core as mx
import numpy as np
import pytest
from msgspec import structs

from models.config import ConfigError
from pipelines.base import AdapterChoice, ImageRequest, PipelineError
from pipelines.qwen_image import QwenImage
from pipelines.settings import RESIDENT
from tests.pipelines import toys
from tests.pipelines.pictures import assert_same, drawn, report, steps

PROMPTS = {
    "none": "",
    "short": "a red circle",
    "long": "zwei Äpfel 🍎, " * 20,
    "cut": "海は静かで " * 120,
}
REQUEST = ImageRequest("a red circle", 5, width=28, height=36, steps=2)


@pytest.mark.reference
@pytest.mark.parametrize(
    ("prompt", "negative", "guidance", "width", "height", "count", "seed"),
    [
        ("none", None, 4.0, 36, 28, 6, 1),
        ("long", "", 1.5, 76, 20, 2, 2**33 + 9),
        ("cut", "cut", 7.0, 20, 44, 2, 3),
        ("short", "long", 3.0, 48, 36, 3, 4),
        ("short", None, 1.0, 32, 48, 9, 5),
    ],
)
def test_it_draws_the_references_picture(saved, prompt, negative, guidance, width, height, count, seed):
    from tests.pipelines import reference

    theirs, local = saved("qwen-image")
    request = ImageRequest(
        PROMPTS[prompt],
        seed,
        negative and PROMPTS.get(negative, negative),
        width=width,
        height=height,
        steps=count,
        guidance=guidance,
    )
    events = list(QwenImage.load(local).generate(request))
    assert_same(drawn(events)[0], reference.pictures(theirs, request)[0])
    assert any("was cut" in warning for warning in report(events).warnings) == ("cut" in (prompt, negative))


def test_without_a_negative_prompt_it_is_compared_with_nothing(toy):
    pipeline = QwenImage.load(toy("qwen-image"))
    alone, blank, empty = (
        drawn(pipeline.generate(structs.replace(REQUEST, negative_prompt=negative)))[0]
        for negative in (None, " ", "")
    )
    assert (alone == blank).all()
    assert (alone != empty).any()


def test_steps_and_guidance_that_have_no_effect_are_said(toy):
    pipeline = QwenImage.load(toy("qwen-image"))
    with pytest.raises(PipelineError, match=r"^steps: 1 is too few; this model's schedule needs at least 2"):
        pipeline.plan(structs.replace(REQUEST, steps=1))
    plan = pipeline.plan(structs.replace(REQUEST, guidance=1.0, negative_prompt="blurry"))
    assert plan.warnings == ("negative_prompt has no effect without guidance above 1",)
    assert (pipeline.plan(structs.replace(REQUEST, steps=None)).num_inference_steps, plan.guidance) == (50, 1)


def test_it_warms_up_and_shows_previews(toy):
    pipeline, progress = QwenImage.load(toy("qwen-image")), []
    pipeline.warm(progress.append)
    assert progress[-1] == 1
    assert progress == sorted(progress)
    shown = steps(pipeline.generate(structs.replace(REQUEST, steps=3, previews=2)))
    assert [step.preview is None for step in shown] == [True, False, False, True]


SPELLINGS = {
    "lightning": ("", ".lora_down.weight", ".lora_up.weight"),
    "peft": ("transformer.", ".lora_A.weight", ".lora_B.weight"),
    "comfy": ("diffusion_model.", ".lora_A.weight", ".lora_B.weight"),
}


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_adapter_of_every_layer_is_what_it_is_merged_into_the_weights(toy, tmp_path, spelling):
    prefix, down, up = SPELLINGS[spelling]
    random, adapter, merged = np.random.default_rng(0), {}, {}
    model, shapes = toy("qwen-image"), toys.shapes("qwen-image")["transformer"]
    for name, shape in shapes.items():
        layer, _, leaf = name.rpartition(".")
        if len(shape) == 2 and leaf == "weight" and layer.startswith("transformer_blocks"):
            small = [
                random.standard_normal(size).astype(np.float32) for size in ((2, shape[1]), (shape[0], 2))
            ]
            adapter |= {
                f"{prefix}{layer}{down}": mx.array(small[0]),
                f"{prefix}{layer}{up}": mx.array(small[1] / 10),
            }
            merged[name] = mx.array(small[1] @ small[0] / 10)
    file = tmp_path / "adapter.safetensors"
    mx.save_safetensors(str(file), adapter)
    request = structs.replace(REQUEST, guidance=1.0)
    (plain,) = drawn(QwenImage.load(model).generate(request))
    (adapted,) = drawn(
        QwenImage.load(model).generate(structs.replace(request, adapters=(AdapterChoice("a", file),)))
    )
    folder = shutil.copytree(model.folder, tmp_path / "merged")
    (stored,) = (folder / "transformer").glob("*.safetensors")
    weights = {name: value + merged.get(name, 0) for name, value in mx.load(str(stored)).items()}
    mx.eval(weights)
    stored.unlink()
    mx.save_safetensors(str(stored), weights)
    assert_same(adapted, drawn(QwenImage.load(toys.local(folder)).generate(request))[0])
    assert np.abs(adapted.astype(int) - plain).max() > 10


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("transformer", {"joint_attention_dim": 26}, "joint_attention_dim is 26, but the text encoder's hidden_size is 24"),
        ("transformer", {"in_channels": 24}, "in_channels is 24, but a patch of the autoencoder's z_dim is 20"),
        ("transformer", {"out_channels": 4}, "output is 16, but a patch of the autoencoder's z_dim is 20"),
        ("transformer", {"patch_size": 1, "in_channels": 5}, "patch_size is 1"),
        ("transformer", {"use_layer3d_rope": True}, "use_layer3d_rope is true"),
        ("text_encoder", {"text_config": {"vocab_size": 300}}, "hidden_size is missing"),
        ("vae", {"attn_scales": [0.5]}, "attn_scales"),
    ],
)  # fmt: skip
def test_parts_that_do_not_belong_together_are_refused(tmp_path, part, changed, message):
    toy = toys.TOYS["qwen-image"]
    parts = dict(toy.parts)
    parts[part] = toys.replace(parts[part], config={**parts[part].config, **changed})
    toys.write_texts(toys.replace(toy, parts=parts), tmp_path)
    with pytest.raises(ConfigError, match=message):
        QwenImage(toys.local(tmp_path), RESIDENT)
