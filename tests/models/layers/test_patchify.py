import mlx.core as mx
import numpy as np
import pytest

from models.layers.patchify import patchify, unpatchify


@pytest.mark.parametrize("channels_first", [True, False])
@pytest.mark.parametrize("shape", [(1, 2, 2, 1), (2, 6, 10, 3)])
def test_patches_go_back_to_what_they_were(shape: tuple[int, int, int, int], channels_first: bool) -> None:
    picture = np.arange(np.prod(shape)).reshape(shape)
    patches = patchify(picture, 2, channels_first)
    assert patches.shape == (shape[0], shape[1] // 2, shape[2] // 2, shape[3] * 4)
    np.testing.assert_array_equal(unpatchify(patches, 2, channels_first), picture)
    on_mlx = patchify(mx.array(picture), 2, channels_first)
    np.testing.assert_array_equal(np.array(on_mlx), patches)


def test_the_two_orders_of_a_patch() -> None:
    picture = np.array([[[[0, 10], [1, 11]], [[2, 12], [3, 13]]]])  # pixel p of channel c is 10 c + p
    assert patchify(picture, 2, True).ravel().tolist() == [0, 1, 2, 3, 10, 11, 12, 13]
    assert patchify(picture, 2, False).ravel().tolist() == [0, 10, 1, 11, 2, 12, 3, 13]


def test_latents_that_do_not_divide_are_an_error() -> None:
    with pytest.raises(ValueError, match="3 x 4 latents"):
        patchify(np.zeros((1, 3, 4, 1)))
