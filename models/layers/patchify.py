"""Square patches of pixels or latents to the features of a token, and back.

Pictures are channels-last. Works for NumPy and MLX arrays.
"""

from typing import TYPE_CHECKING, Any, TypeVar

from numpy.typing import NDArray

if TYPE_CHECKING:
    import mlx.core as mx

Array = TypeVar("Array", "mx.array", NDArray[Any])


def patchify(picture: Array, patch: int = 2, channels_first: bool = True) -> Array:
    """[n, height, width, c] to [n, height / patch, width / patch, c * patch²].

    FLUX.1 and FLUX.2 order a patch's features channel by channel, Z-Image pixel by pixel (channels_first=False).
    """
    n, height, width, channels = picture.shape
    if height % patch or width % patch:
        raise ValueError(f"{height} x {width} latents do not divide into {patch} x {patch} patches")
    rows, columns = height // patch, width // patch
    split = picture.reshape(n, rows, patch, columns, patch, channels)
    order = (0, 1, 3, 5, 2, 4) if channels_first else (0, 1, 3, 2, 4, 5)
    return split.transpose(*order).reshape(n, rows, columns, channels * patch * patch)


def unpatchify(patches: Array, patch: int = 2, channels_first: bool = True) -> Array:
    """The inverse of `patchify`."""
    n, rows, columns, features = patches.shape
    channels = features // (patch * patch)
    if channels_first:
        split = patches.reshape(n, rows, columns, channels, patch, patch).transpose(0, 1, 4, 2, 5, 3)
    else:
        split = patches.reshape(n, rows, columns, patch, patch, channels).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(n, rows * patch, columns * patch, channels)
