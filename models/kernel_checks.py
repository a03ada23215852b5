"""All custom kernels, and the checks that are made when a model is loaded."""

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_flatten

from models.kernels import paged_attention, paged_write, prompt_attention
from models.kernels.checked import CheckedKernel
from models.kernels.paged_attention import Shape
from models.layers.fused import CONCAT_MLP, HEADS_FIRST
from models.vae.tiled_statistics import JOINED_MOMENTS, ROW_MOMENTS

# Of common models: each model's own shapes are tried when it is loaded.
SHAPES = [Shape(128, 4, mx.bfloat16, 32, bits, 64 if bits else 0) for bits in (0, 8, 4)]
PAGED = (
    *map(paged_attention.checked, SHAPES),
    *map(paged_write.checked, SHAPES),
    prompt_attention.checked(SHAPES[0]),
    paged_write.REPLACE_ROWS,
)
PICTURES = (HEADS_FIRST, CONCAT_MLP, ROW_MOMENTS, JOINED_MOMENTS)


def all_kernels() -> tuple[CheckedKernel, ...]:
    """For pictures and for texts."""
    # Imported here, as picture models do not need the language models' packages.
    from models.language.decode.kernel_cases import DECODING
    from models.language.decode.packed_matmul import QUANTIZED_ROWS

    return (*PICTURES, *PAGED, *DECODING, QUANTIZED_ROWS)


def check_for_pictures(network: nn.Module) -> None:
    """Try the kernels for pictures in the dtypes of a network's weights, before a step is traced: during tracing no kernel can
    be tried."""
    arrays: list[tuple[str, mx.array]] = tree_flatten(network.parameters())  # type: ignore[assignment]
    dtypes = {array.dtype for _, array in arrays if mx.issubdtype(array.dtype, mx.floating)}
    for kernel in PICTURES:
        for dtype in dtypes:
            kernel.works(dtype)
