"""Noise against torch's own, patches and positions against the reference pipelines'."""

from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.layers.patchify import patchify
from pipelines import latents
from pipelines.latents import Noise

STORED = np.load(Path(__file__).parent / "references" / "sampling.npz")
DRAWS = {"odd": (3, 3), "after odd": (5,), "block": (16,), "tail": (3, 37), "latents": (2, 4, 18, 10)}


@pytest.mark.parametrize("seed", [1, 42, 2**31, 2**40 + 5])
def test_a_stream_of_draws_is_torchs(seed: int) -> None:
    noise = Noise(seed)
    for name, shape in DRAWS.items():
        drawn = noise.normal(shape)
        assert drawn.dtype == np.float32
        assert drawn.shape == shape
        np.testing.assert_allclose(drawn, STORED[f"noise {seed} {name}"], atol=5e-7, rtol=0)


def plainly(words: np.ndarray) -> np.ndarray:
    """Normal numbers of whole blocks of words, step by step."""
    uniforms = ((words & 0xFFFFFF).astype(np.float32) * np.float32(2**-24)).reshape(-1, 2, 8)
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - uniforms[:, 0]))
    angle = np.float32(2 * np.pi) * uniforms[:, 1]
    return np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=1).reshape(-1)


@pytest.mark.parametrize("size", [16, latents.PART - 16, latents.PART, latents.PART + 16, 5 * latents.PART])
def test_numbers_are_the_same_in_however_many_parts_they_are_made(size: int) -> None:
    noise, words = Noise(9), np.random.RandomState(9)
    for _ in range(2):
        drawn = noise.normal((size,))
        np.testing.assert_array_equal(drawn, plainly(words.randint(0, 2**32, size, dtype=np.uint32)))


def test_a_broken_block_moves_the_stream_on_unless_it_is_of_halves() -> None:
    size = latents.PART + 21
    whole = size - size % 16
    for half, skipped in ((True, 0), (False, size - whole)):
        words = np.random.RandomState(9)
        expected = np.empty(size, np.float32)
        expected[:whole] = plainly(words.randint(0, 2**32, whole, dtype=np.uint32))
        words.randint(0, 2**32, skipped, dtype=np.uint32)
        expected[-16:] = plainly(words.randint(0, 2**32, 16, dtype=np.uint32))
        np.testing.assert_array_equal(Noise(9).normal((size,), half), expected)


def test_the_lower_half_of_a_seed_decides() -> None:
    np.testing.assert_array_equal(Noise(2**40 + 5).normal((64,)), Noise(5).normal((64,)))


@pytest.mark.parametrize("channels", [4, 8, 19])
def test_noise_for_pictures_is_drawn_channels_first(channels: int) -> None:
    drawn = Noise(42).pictures(2, channels, 6, 10)
    assert drawn.shape == (2, 6, 10, channels)
    assert drawn.flags.c_contiguous
    np.testing.assert_array_equal(drawn.transpose(0, 3, 1, 2), Noise(42).normal((2, channels, 6, 10)))


def test_nothing_can_be_drawn() -> None:
    assert Noise(1).normal((0, 4)).shape == (0, 4)


def test_a_flux_picture_counts_in_rows_and_columns() -> None:
    assert latents.flux_image_ids(2, 3).tolist() == [[0, r, c] for r in range(2) for c in range(3)]
    assert latents.flux_text_ids(2).tolist() == [[0, 0, 0]] * 2


def test_flux2_gives_each_reference_a_time_of_its_own() -> None:
    assert latents.flux2_text_ids(2).tolist() == [[0, 0, 0, 0], [0, 0, 0, 1]]
    assert latents.flux2_image_ids(1, 2).tolist() == [[0, 0, 0, 0], [0, 0, 1, 0]]
    assert latents.flux2_reference_ids([(1, 2), (2, 1)]).tolist() == [
        [10, 0, 0, 0],
        [10, 0, 1, 0],
        [20, 0, 0, 0],
        [20, 1, 0, 0],
    ]


@pytest.mark.reference
@pytest.mark.parametrize("size", [*range(1, 40), 100, 1023, 65536, 1_000_003])
def test_noise_of_any_length_is_torchs(size: int) -> None:
    torch = pytest.importorskip("torch")
    generator = torch.Generator("cpu").manual_seed(1234)
    noise = Noise(1234)
    for _ in range(2):
        theirs = torch.randn(size, generator=generator).numpy()
        np.testing.assert_allclose(noise.normal((size,)), theirs, atol=5e-7, rtol=2e-7)


@pytest.mark.reference
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("size", [9, 16, 31, 4099])
def test_half_precisions_are_drawn_in_float32_and_rounded(dtype: str, size: int) -> None:
    torch = pytest.importorskip("torch")
    generator, noise = torch.Generator("cpu").manual_seed(7), Noise(7)
    for _ in range(2):
        theirs = torch.randn(size, generator=generator, dtype=getattr(torch, dtype)).float().numpy()
        drawn = mx.array(noise.normal((size,), half=True))
        ours = np.array(drawn.astype(getattr(mx, dtype)).astype(mx.float32))
        # A number that lies on the border of two halves may fall to the other side.
        assert np.mean(ours == theirs) > 0.999
        np.testing.assert_allclose(ours, theirs, rtol=2**-7)


@pytest.mark.reference
def test_patches_and_positions_are_the_reference_pipelines() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers import Flux2KleinPipeline, FluxPipeline, ZImageTransformer2DModel

    picture = torch.randn(2, 5, 6, 8)
    ours = patchify(picture.permute(0, 2, 3, 1).numpy())
    theirs = FluxPipeline._pack_latents(picture, 2, 5, 6, 8).numpy()
    np.testing.assert_array_equal(ours.reshape(2, 12, 20), theirs)
    theirs = Flux2KleinPipeline._patchify_latents(picture).permute(0, 2, 3, 1).numpy()
    np.testing.assert_array_equal(ours, theirs)
    theirs = ZImageTransformer2DModel._patchify_image(None, picture[:1].transpose(0, 1), 2, 1)[0].numpy()
    np.testing.assert_array_equal(
        patchify(picture[:1].permute(0, 2, 3, 1).numpy(), 2, False).reshape(12, 20), theirs
    )
    ids = FluxPipeline._prepare_latent_image_ids(1, 3, 4, "cpu", torch.float32)
    np.testing.assert_array_equal(latents.flux_image_ids(3, 4), ids)
    tokens = torch.zeros(1, 7, 2)
    np.testing.assert_array_equal(latents.flux2_text_ids(7), Flux2KleinPipeline._prepare_text_ids(tokens)[0])
    np.testing.assert_array_equal(
        latents.flux2_image_ids(6, 8), Flux2KleinPipeline._prepare_latent_ids(picture)[0]
    )
    references = [torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 5, 1)]
    np.testing.assert_array_equal(
        latents.flux2_reference_ids([(3, 4), (5, 1)]), Flux2KleinPipeline._prepare_image_ids(references)[0]
    )
