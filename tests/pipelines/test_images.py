"""Pictures to what an autoencoder takes, against what the reference's image processors make of them."""

import mlx.core as mx
import numpy as np
import pytest
from PIL import Image

from pipelines.images import PictureError, drawn_size, to_bytes, to_reference, to_start

RED = (255, 0, 0)


def scene(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[:height, :width]
    bands = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], axis=-1)
    return Image.fromarray(bands.astype(np.uint8))


def test_a_reference_is_cut_to_the_multiple_around_its_centre() -> None:
    picture = scene(150, 100)
    expected = np.asarray(picture)[2:98, 3:147].astype(np.float32) / 127.5 - 1
    np.testing.assert_allclose(to_reference(picture), expected[None], atol=1e-6)


def test_a_large_reference_is_reduced_to_a_megapixel() -> None:
    assert to_reference(Image.new("RGB", (3000, 2000))).shape == (1, 832, 1248, 3)
    assert drawn_size(3000, 2000) == (1248, 832)


@pytest.mark.parametrize(("size", "said"), [((63, 200), "64 pixels"), ((900, 100), "8 to 1")])
def test_a_reference_of_a_bad_shape_is_an_error(size: tuple[int, int], said: str) -> None:
    with pytest.raises(PictureError, match=said):
        to_reference(Image.new("RGB", size))


def test_a_tiny_picture_still_gives_a_size() -> None:
    assert drawn_size(3, 40) == (16, 32)


def test_the_start_is_stretched_to_what_is_drawn() -> None:
    start = to_start(Image.new("RGB", (50, 20), RED), 32, 48)
    assert start.shape == (1, 48, 32, 3)
    assert start.dtype == np.float32
    assert start[0, 5, 5].tolist() == [1.0, -1.0, -1.0]


def test_decoded_values_become_bytes_and_are_held_within_bounds() -> None:
    decoded = mx.array([[[-1.0, 0.0, 1.0], [-3.0, 0.5, 2.0]]])
    assert to_bytes(decoded).tolist() == [[[0, 128, 255], [0, 191, 255]]]
    assert to_bytes(decoded.astype(mx.bfloat16)).dtype == mx.uint8


@pytest.mark.reference
@pytest.mark.parametrize("size", [(64, 64), (150, 100), (1100, 1300), (2999, 401), (1024, 1024)])
def test_pictures_are_prepared_as_the_references_do(size: tuple[int, int]) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers.image_processor import VaeImageProcessor
    from diffusers.pipelines.flux2.image_processor import Flux2ImageProcessor

    picture = scene(*size)
    processor = Flux2ImageProcessor(vae_scale_factor=16)
    processor.check_image_input(picture)
    reduced = processor._resize_if_exceeds_area(picture)
    width, height = (side // 16 * 16 for side in reduced.size)
    theirs = processor.preprocess(reduced, height=height, width=width, resize_mode="crop")
    np.testing.assert_allclose(to_reference(picture), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-6)
    assert drawn_size(*size) == (width, height)
    theirs = VaeImageProcessor(vae_scale_factor=16).preprocess(picture, height=144, width=272)
    np.testing.assert_allclose(to_start(picture, 272, 144), theirs.permute(0, 2, 3, 1).numpy(), atol=1e-6)


@pytest.mark.reference
def test_decoded_values_become_the_references_bytes() -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    from diffusers.image_processor import VaeImageProcessor

    decoded = np.random.default_rng(1).normal(0, 0.7, (1, 33, 31, 3)).astype(np.float32)
    theirs = VaeImageProcessor().postprocess(torch.from_numpy(decoded).permute(0, 3, 1, 2))[0]
    np.testing.assert_array_equal(np.array(to_bytes(mx.array(decoded)))[0], np.asarray(theirs))
