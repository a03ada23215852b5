"""How much arithmetic a computation is, and how fast the device does arithmetic: the floor under every measurement.

Counted from the graph that MLX builds, so the count is of what is really computed: matrix products, attention and
convolutions, a multiplication and an addition each. All else is left out, as a perfect program would hide it.
"""

import math
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import mlx.core as mx

Shape = tuple[int, ...]
# Large enough that a device is at its best, small enough for a second: on a GPU, and on a processor.
SIDES = {True: (4096, 8192, 16384), False: (1024, 1536)}


def operations(function: Callable[[mx.array], Any], example: mx.array) -> int:
    """Of one call. Nothing is computed: only the graph is built, for a processor, where no kernel hides its parts."""
    total = 0

    def hear(told: dict[str, Any]) -> None:
        nonlocal total
        if told["type"] == "primitive":
            shapes = [tuple(entry[1]) for entry in told["inputs"]]
            total += _cost(str(told["name"]), shapes, tuple(told["outputs"][0][1]))

    with _on_processor():
        mx.export_function(hear, lambda x: function(x), example)
    return total


def _cost(name: str, inputs: list[Shape], output: Shape) -> int:
    """A product's operations are two for each number that comes out and each that is summed for it."""
    if name in ("Matmul", "AddMM", "QuantizedMatmul"):
        return 2 * math.prod(output) * inputs[0][-1]
    if name == "Convolution":
        return 2 * math.prod(output) * math.prod(inputs[1][1:])
    return 0


def device_rate(dtype: mx.Dtype) -> float:
    """Operations a second in the best of some large square products: measured, not looked up."""
    gpu = bool(mx.default_device() == mx.gpu)
    return max(_rate(side, dtype) for side in SIDES[gpu])


def _rate(side: int, dtype: mx.Dtype) -> float:
    a, b = (mx.random.normal((side, side), dtype=dtype) for _ in range(2))
    mx.eval(a, b)
    best = math.inf
    for _ in range(4):  # the first warms
        began = time.perf_counter()
        mx.eval(a @ b)
        best = min(best, time.perf_counter() - began)
    mx.clear_cache()
    return 2 * side**3 / best


@contextmanager
def _on_processor() -> Iterator[None]:
    before = mx.default_device()
    mx.set_default_device(mx.cpu)
    mx.disable_compile()  # what is compiled is one opaque thing in a graph
    try:
        yield
    finally:
        if "MLX_DISABLE_COMPILE" not in os.environ:
            mx.enable_compile()
        mx.set_default_device(before)
