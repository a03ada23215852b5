"""FLOPs of a computation, and the FLOP/s of the device: together the lower bound of every measured time.

Counted in MLX's own graph, so it is what really runs: the multiplications and additions of matrix products, attention and
convolutions. Everything else is left out, as a perfect program would hide it.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

Shape = tuple[int, ...]
# Large enough for a device's best rate, small enough for a second: on a GPU (True) and on a CPU.
SIDES = {True: (4096, 8192, 16384), False: (1024, 1536)}


def count_flops(function: Callable[[mx.array], Any], example: mx.array) -> int:
    """FLOPs of one call. Only the graph is built, for the CPU, where operations are not fused into kernels."""
    total = 0

    def visit(node: dict[str, Any]) -> None:
        nonlocal total
        if node["type"] == "primitive":
            shapes = [tuple(entry[1]) for entry in node["inputs"]]
            total += _cost(str(node["name"]), shapes, tuple(node["outputs"][0][1]))

    with _on_cpu():
        mx.export_function(visit, lambda x: function(x), example)
    return total


def _cost(name: str, inputs: list[Shape], output: Shape) -> int:
    """Two for each output element and each term of its sum."""
    if name in ("Matmul", "AddMM", "QuantizedMatmul"):
        return 2 * math.prod(output) * inputs[0][-1]
    if name == "Convolution":
        return 2 * math.prod(output) * math.prod(inputs[1][1:])
    return 0


def device_rate(dtype: mx.Dtype) -> float:
    """Measured FLOP/s: the best of some large square matrix products."""
    gpu = bool(mx.default_device() == mx.gpu)
    return max(_rate(side, dtype) for side in SIDES[gpu])


def _rate(side: int, dtype: mx.Dtype) -> float:
    a, b = (mx.random.normal((side, side), dtype=dtype) for _ in range(2))
    mx.eval(a, b)
    best = math.inf
    for _ in range(4):  # the first is a warm-up
        began = time.perf_counter()
        mx.eval(a @ b)
        best = min(best, time.perf_counter() - began)
    mx.clear_cache()
    return 2 * side**3 / best


@contextmanager
def _on_cpu() -> Iterator[None]:
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()  # a compiled function is a single opaque node
    try:
        yield
    finally:
        if "MLX_DISABLE_COMPILE" not in os.environ:
            mx.enable_compile()
        mx.set_default_device(before)
