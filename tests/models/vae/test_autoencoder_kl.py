"""Autoencoders against diffusers' own, stored and live; in strips against the whole."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx.utils import tree_flatten

from models.checkpoint.weights import WeightMap, WeightsError, load_component, load_tensors
from models.config import ConfigError
from models.files import Shard
from models.vae import blocks, tiled_statistics
from models.vae.autoencoder import Autoencoder, averages
from models.vae.autoencoder_kl import (
    WEIGHTS,
    AutoencoderKL,
    AutoencoderKLFlux2,
)
from models.vae.autoencoder_kl_qwen_image import WEIGHTS as QWEN_IMAGE_WEIGHTS
from models.vae.autoencoder_kl_qwen_image import AutoencoderKLQwenImage, AutoencoderKLQwenImageConfig
from models.vae.config import AutoencoderKLConfig, AutoencoderKLFlux2Config
from models.vae.strips import Strips
from tests import ROOT
from tests.models.vae.toys import ALL, REAL, checkpoint_config, latents, pictures, weight

REFERENCES = ROOT / "tests" / "models" / "references"
STORED = np.load(REFERENCES / "vae.npz")
toys = pytest.mark.parametrize(("kind", "name"), ALL)


def empty(config: dict[str, Any]) -> Autoencoder:
    if config["_class_name"] == "AutoencoderKL":
        return AutoencoderKL(AutoencoderKLConfig.from_dict(config))
    if config["_class_name"] == "AutoencoderKLQwenImage":
        return AutoencoderKLQwenImage(AutoencoderKLQwenImageConfig.from_dict(config))
    return AutoencoderKLFlux2(AutoencoderKLFlux2Config.from_dict(config))


def weight_map(vae: Autoencoder) -> WeightMap:
    return QWEN_IMAGE_WEIGHTS if isinstance(vae, AutoencoderKLQwenImage) else WEIGHTS


def toy(kind: str, name: str) -> Autoencoder:
    vae = empty(checkpoint_config(kind, name))
    load_tensors(vae, stored(vae), weight_map(vae))
    return vae


def stored(vae: Autoencoder) -> dict[str, mx.array]:
    """What the reference's checkpoint has for each parameter, but for what it has in addition."""
    shapes = (as_stored(vae, key, value.shape) for key, value in tree_flatten(vae.parameters()))
    return {key: mx.array(weight(key, shape)) for key, shape in shapes}


def as_stored(vae: Autoencoder, key: str, shape: tuple[int, ...]) -> tuple[str, tuple[int, ...]]:
    """A parameter's name and shape in the checkpoint, where a kernel's channels come second, and in Qwen-Image's, beside
    steps between sizes and attention, a time before its rows."""
    is_kernel = len(shape) == 4 and not key.endswith("gamma")
    kernel = (shape[0], shape[3], *shape[1:3]) if is_kernel else tuple(shape)
    if not isinstance(vae, AutoencoderKLQwenImage):
        return key, kernel
    name = key.replace(".conv.", ".resample.1.")
    if is_kernel and "resample" not in name and "attentions" not in name:
        kernel = (*kernel[:2], kernel[2], *kernel[2:])
    return name, kernel


def error(actual: mx.array, expected: Any) -> float:
    expected = np.array(expected)
    assert actual.shape == expected.shape
    return float(np.abs(np.array(actual) - expected).max() / np.abs(expected).max())


@toys
def test_a_picture_is_encoded_as_the_reference_does(kind: str, name: str) -> None:
    vae = toy(kind, name)
    encoded = vae.encode(mx.array(pictures(kind, name)))
    assert error(vae.from_transformer(encoded), STORED[f"encoded {kind} {name}"]) < 2e-5


@toys
def test_noise_picks_from_the_distribution(kind: str, name: str) -> None:
    vae = toy(kind, name)
    noise = latents(kind, name)
    picked = vae.encode(mx.array(pictures(kind, name)), noise=mx.array(noise))
    expected = STORED[f"encoded {kind} {name}"] + STORED[f"spread {kind} {name}"] * noise
    assert error(vae.from_transformer(picked), expected) < 2e-5


@toys
def test_latents_are_decoded_as_the_reference_does(kind: str, name: str) -> None:
    vae = toy(kind, name)
    decoded = vae.decode(vae.to_transformer(mx.array(latents(kind, name))))
    assert error(decoded, STORED[f"decoded {kind} {name}"]) < 2e-5


@toys
@pytest.mark.parametrize("rows", [1, 2, 5, 16, 1000])
@pytest.mark.parametrize("recompute", [False, True])
def test_strips_give_the_whole_picture(kind: str, name: str, rows: int, recompute: bool) -> None:
    vae, strips = toy(kind, name), Strips(rows, recompute)
    seen = vae.to_transformer(mx.array(latents(kind, name)))
    assert error(vae.decode(seen, strips), vae.decode(seen)) < 1e-5
    picture = mx.array(pictures(kind, name))
    assert error(vae.encode(picture, strips=strips), vae.encode(picture)) < 1e-5


def test_moments_and_attention_may_be_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    vae, seen = toy("KL", "plain"), mx.array(latents("KL", "plain"))
    whole = vae.decode(seen)
    mx.eval(whole)
    monkeypatch.setattr(tiled_statistics, "CHUNK", 1000)
    monkeypatch.setattr(blocks, "SCORES", 1000)
    assert error(vae.decode(seen), whole) < 1e-5
    assert error(vae.decode(seen, Strips(5)), whole) < 1e-5


def test_strips_show_no_seams_where_groups_lean_far_from_zero() -> None:
    vae = toy("KL", "plain")
    seen = mx.array(latents("KL", "plain")) * 0.01 + 300
    whole = vae.decode(seen)
    assert float(mx.abs(vae.decode(seen, Strips(3)) - whole).max() / mx.abs(whole).max()) < 1e-4


def test_pictures_of_a_batch_do_not_touch() -> None:
    vae = toy("KL", "plain")
    seen = mx.random.normal((2, 6, 4, 4), key=mx.random.key(1))
    both = vae.decode(seen, Strips(4))
    assert error(both[1:], vae.decode(seen[1:])) < 1e-5


def peak(vae: Autoencoder, seen: mx.array, strips: Strips | int | None) -> int:
    """Bytes that decoding holds beyond what was held before."""
    mx.eval(seen, vae.parameters())
    mx.clear_cache()
    before = mx.get_active_memory()
    mx.reset_peak_memory()
    mx.eval(vae.decode(seen, strips))
    return mx.get_peak_memory() - before


def test_strips_hold_less_memory_than_the_whole() -> None:
    vae, seen = toy("KL", "no attention"), mx.random.normal((1, 128, 32, 3), key=mx.random.key(1))
    whole, kept, recomputed = (
        peak(vae, seen, strips) for strips in (None, Strips(16), Strips(16, recompute=True))
    )
    assert kept < whole / 5
    assert recomputed < kept


@pytest.mark.skipif(mx.default_device() == mx.gpu, reason="a GPU lets go of small pieces late")
@pytest.mark.parametrize("planes", [5, 8, 16])
def test_strips_hold_no_more_than_they_have_room_for(planes: int) -> None:
    vae = empty(checkpoint_config("KL", "plain") | {"mid_block_add_attention": False})
    plane = 512 * 128 * vae.config.outermost * 4
    seen = mx.random.normal((1, 256, 64, 4), key=mx.random.key(1))
    assert planes / 2 * plane < peak(vae, seen, planes * plane) < planes * plane


def test_what_the_transformer_knows_goes_back_to_latents() -> None:
    for kind, name in ALL:
        vae, raw = toy(kind, name), mx.array(latents(kind, name))
        assert error(vae.from_transformer(vae.to_transformer(raw)), raw) < 1e-5


def test_flux2_latents_are_patches_normalised_by_the_checkpoints_statistics() -> None:
    vae, raw = toy("Flux2", "plain"), latents("Flux2", "plain")
    seen = vae.to_transformer(mx.array(raw))
    assert seen.shape == (1, raw.shape[1] // 2, raw.shape[2] // 2, 4 * raw.shape[3])
    patch = raw[0, 2:4, 4:6].transpose(2, 0, 1).ravel()
    deviation = np.sqrt(weight("bn.running_var", patch.shape) + 1e-4)
    expected = (patch - weight("bn.running_mean", patch.shape)) / deviation
    assert error(seen[0, 1, 2], expected) < 1e-5


@pytest.mark.parametrize(
    ("kind", "name"), [("KL", "plain"), ("Flux2", "plain"), ("QwenImage", "wider outside")]
)
def test_a_preview_is_small_and_shows_the_same(kind: str, name: str) -> None:
    vae = toy(kind, name)
    seen = vae.to_transformer(mx.array(latents(kind, name)))
    rows, columns = latents(kind, name).shape[1:3]
    small = vae.preview(seen, longest=rows)
    assert small.shape == (1, rows, columns // 2 * 2, 3)
    assert error(vae.preview(seen, longest=4096), vae.decode(seen)) < 1e-5


def test_a_preview_decodes_the_latentsaverages() -> None:
    vae, seen = toy("KL", "plain"), mx.random.normal((1, 24, 12, 4), key=mx.random.key(2))
    averages = seen.reshape(1, 8, 3, 4, 3, 4).mean(axis=(2, 4))
    assert error(vae.preview(seen, longest=16), vae.decode(averages)) < 1e-5


def test_a_preview_of_an_odd_sizeaverages_by_share() -> None:
    averaged = averages(5, 2)
    np.testing.assert_allclose(averaged, [[0.4, 0.4, 0.2, 0, 0], [0, 0, 0.2, 0.4, 0.4]], atol=1e-7)
    assert toy("KL", "plain").preview(mx.zeros((1, 1, 100, 4)), longest=20).shape == (1, 2, 20, 3)


@pytest.mark.parametrize("name", REAL)
def test_the_real_ones_have_the_checkpoints_tensors(name: str) -> None:
    vae = empty(REAL[name])  # described, never allocated
    expected = {
        key: tuple(shape)
        for key, shape in json.loads((REFERENCES / "vae_shapes.json").read_text())[name].items()
        if weight_map(vae).name(key) is not None
    }
    assert dict(as_stored(vae, key, value.shape) for key, value in tree_flatten(vae.parameters())) == expected


def save(path: Path, kind: str, name: str) -> list[Shard]:
    """The toy as a checkpoint stores it."""
    tensors = stored(empty(checkpoint_config(kind, name)))
    if kind == "Flux2":
        tensors["bn.num_batches_tracked"] = mx.array(3)
    if kind == "QwenImage":
        tensors["decoder.up_blocks.0.upsamplers.0.time_conv.bias"] = mx.zeros(36)
    mx.save_safetensors(str(path / "model.safetensors"), tensors)
    return [Shard(path / "model.safetensors")]


@pytest.mark.parametrize(("kind", "name"), [("KL", "plain"), ("Flux2", "plain"), ("QwenImage", "plain")])
def test_a_checkpoint_loads(tmp_path: Path, kind: str, name: str) -> None:
    vae = empty(checkpoint_config(kind, name))
    load_component(vae, save(tmp_path, kind, name), weight_map(vae))
    decoded = vae.decode(vae.to_transformer(mx.array(latents(kind, name))))
    assert error(decoded, STORED[f"decoded {kind} {name}"]) < 2e-5


def test_the_attention_of_older_checkpoints_is_understood() -> None:
    old = "decoder.mid_block.attentions.0"
    names = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}
    for theirs, ours in names.items():
        assert WEIGHTS.name(f"{old}.{theirs}.weight") == f"{old}.{ours}.weight"


def test_half_precision_shows_the_same_picture(tmp_path: Path) -> None:
    shards = save(tmp_path, "KL", "plain")
    shown = []
    for dtype in (mx.float32, mx.bfloat16):
        vae = empty(checkpoint_config("KL", "plain"))
        load_component(vae, shards, WEIGHTS, dtype)
        picture = vae.decode(mx.array(latents("KL", "plain")))
        assert picture.dtype == dtype
        shown.append(np.array(picture.astype(mx.float32)))
    assert np.sqrt(np.mean((shown[0] - shown[1]) ** 2)) < 0.02 * shown[0].std()


def test_weights_of_other_dimensions_are_an_error_that_names_them(tmp_path: Path) -> None:
    config = checkpoint_config("KL", "plain") | {"latent_channels": 5}
    with pytest.raises(WeightsError, match=r"decoder\.conv_in\.weight"):
        load_component(empty(config), save(tmp_path, "KL", "plain"), WEIGHTS)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"down_block_types": ["AttnDownBlock2D"] * 2}, "AttnDownBlock2D"),
        ({"up_block_types": ["UpDecoderBlock2D"]}, "up_block_types"),
        ({"act_fn": "mish"}, "mish"),
        ({"norm_num_groups": 5}, "norm_num_groups = 5"),
        ({"block_out_channels": None}, "block_out_channels"),
    ],
)
def test_a_config_that_cannot_be_built_is_an_error(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        empty(checkpoint_config("KL", "plain") | changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"patch_size": [2, 1]}, "patch_size"), ({"decoder_block_out_channels": [8]}, "differ")],
)
def test_a_flux2_config_that_cannot_be_built_is_an_error(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        empty(checkpoint_config("Flux2", "plain") | changed)


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"attn_scales": [0.5]}, "attn_scales"),
        ({"input_channels": 4}, "input_channels is 4"),
        ({"dim_mult": [1, 2]}, "temperal_downsample has 3 values, and dim_mult 2"),
        ({"dim_mult": [1, 2, 0, 3]}, "above 0"),
        ({"base_dim": 7, "dim_mult": [1, 1, 2, 2]}, "even numbers"),
        ({"latents_mean": [0.0]}, "latents_mean has 1 values"),
        ({"latents_std": [1.0, 2.0, 0.0, 1.0, 1.0]}, "latents_std has a 0"),
    ],
)
def test_a_config_of_qwen_image_that_cannot_be_built_is_an_error(changed: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        empty(checkpoint_config("QwenImage", "plain") | changed)


@pytest.mark.reference
@toys
def test_any_size_is_what_the_reference_gives_live(kind: str, name: str) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from tests.models.references.make_vae import channels_first, channels_last, reference

    theirs, ours = reference(kind, name), toy(kind, name)
    channels, scale = ours.config.latent_channels, ours.config.scale
    rng = np.random.default_rng(11)
    for n, rows, columns in [(1, 2, 2), (2, 6, 14), (1, 26, 4)]:
        raw = rng.standard_normal((n, rows, columns, channels), dtype=np.float32)
        picture = rng.uniform(-1, 1, (n, rows * scale, columns * scale, 3)).astype(np.float32)
        with torch.no_grad():
            decoded = channels_last(theirs.decode(channels_first(raw, kind)).sample)
            encoded = channels_last(theirs.encode(channels_first(picture, kind)).latent_dist.mode())
        for strips in (None, Strips(4), Strips(4, recompute=True)):
            assert error(ours.decode(ours.to_transformer(mx.array(raw)), strips), decoded) < 1e-4
            assert error(ours.from_transformer(ours.encode(mx.array(picture), strips=strips)), encoded) < 1e-4
