"""Every kernel of ours, and the checks that loading a model asks for."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from models.kernels.checked import CheckedKernel
from models.layers.fused import BESIDE_MLP, HEADS_FIRST
from models.vae.tiled_statistics import JOINED_MOMENTS, ROW_MOMENTS

PICTURES = (HEADS_FIRST, BESIDE_MLP, ROW_MOMENTS, JOINED_MOMENTS)


def all_kernels() -> tuple[CheckedKernel, ...]:
    """Those of pictures and those of texts."""
    # Imported here: pictures need nothing of the language models' packages.
    from models.language.decode.kernel_cases import DECODING
    from models.language.decode.packed_matmul import QUANTIZED_ROWS

    return (*PICTURES, *DECODING, QUANTIZED_ROWS)


def check_for_pictures(network: nn.Module) -> None:
    """Try the kernels of pictures in the types that a network's weights have. Before any of its steps is traced, in which
    nothing can be tried."""
    arrays: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    dtypes = {array.dtype for _, array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    for kernel in PICTURES:
        for dtype in dtypes:
            kernel.works(dtype)
