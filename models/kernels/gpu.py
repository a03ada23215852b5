"""The device that MLX computes on."""

import mlx.core as mx

from models.kernels.nvrtc import usable


def on_gpu() -> bool:
    """Whether MLX computes on a GPU."""
    return bool(mx.default_device() == mx.gpu)


def on_cuda() -> bool:
    """Whether MLX computes on an NVIDIA card."""
    return on_gpu() and bool(mx.cuda.is_available())


def ours_compile() -> bool:
    """Whether kernels that Diptych compiles run on it (see `nvrtc`)."""
    return on_cuda() and usable()
