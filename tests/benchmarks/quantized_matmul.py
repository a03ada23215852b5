"""The ways to multiply by quantized weights: the measurement behind the limits in models/layers/quantized.py and
models/language/decode/packed_matmul.py.

    python -m tests.benchmarks.quantized_matmul                          4 bits, shapes of Qwen3-4B and klein 4B, on a GPU
    python -m tests.benchmarks.quantized_matmul --ways 4 8 mxfp4 nvfp4
    uv run python -m tests.benchmarks.quantized_matmul --shapes 64x128 --rows 1 8 --bytes 1e5      does it run here?

Microseconds per product, the best of five. As in a model, each product uses another weight, so that none is in a cache:
one compiled step multiplies by `--bytes` of weights. `mlx` is MLX's quantized product, `packed` our kernel, `unpacked`
dequantizes first, `plain` multiplies by weights that were never quantized.
"""

import argparse
import math
import time
from collections.abc import Callable

import mlx.core as mx
import mlx.nn as nn

from models.checkpoint.quantize import Quantization
from models.kernels.gpu import on_cuda
from models.language.decode import packed_matmul
from runner.engine import device

SHAPES = ["2560x1024", "2560x4096", "2560x9728", "9728x2560", "2560x151936", "3072x9216", "3072x27648", "12288x3072"]  # fmt: skip
ROWS = [1, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512, 4608]
LARGEST_LOGITS = 512


def fastest(step: Callable[[mx.array], list[mx.array]], x: mx.array) -> float:
    """Seconds."""
    step = mx.compile(step)
    best = math.inf
    for _ in range(6):  # the first compiles
        began = time.perf_counter()
        mx.eval(step(x))
        best = min(best, time.perf_counter() - began)
    return best


def layer(inputs: int, outputs: int) -> nn.Linear:
    linear = nn.Linear(inputs, outputs, bias=False)
    linear.weight = (mx.random.normal((outputs, inputs)) * inputs**-0.5).astype(mx.bfloat16)
    mx.eval(linear.weight)
    return linear


def measure(inputs: int, outputs: int, rows: int, way: Quantization, weights: float) -> dict[str, float]:
    count = max(1, round(weights / (2 * inputs * outputs)))
    plain = [layer(inputs, outputs) for _ in range(count)]
    quantized = [way.apply(one) for one in plain]
    x = mx.random.normal((rows, inputs)).astype(mx.bfloat16)
    mx.eval(x, [one.parameters() for one in quantized])
    how = {"group_size": way.group_size, "bits": way.bits, "mode": way.mode}

    def by_mlx(x: mx.array, one: nn.Module) -> mx.array:
        return mx.quantized_matmul(x, one["weight"], one["scales"], one.get("biases"), **how)

    def unpacked(x: mx.array, one: nn.Module) -> mx.array:
        packs = one["weight"], one["scales"], one.get("biases")
        return x @ mx.dequantize(*packs, **how, dtype=mx.bfloat16).T

    ways = {"mlx": by_mlx, "unpacked": unpacked, "packed": packed_matmul.product}
    if not (on_cuda() and packed_matmul.takes(rows, quantized[0], mx.bfloat16)):
        del ways["packed"]
    seconds = {
        name: fastest(lambda x, call=call: [call(x, one) for one in quantized], x)
        for name, call in ways.items()
    }
    seconds["plain"] = fastest(lambda x: [x @ one.weight.T for one in plain], x)
    return {name: each / count * 1e6 for name, each in seconds.items()}


def main() -> None:
    device.prepare()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", default=["4"], help="as --quantize takes them")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="INxOUT")
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    parser.add_argument("--bytes", type=float, default=1e9, help="of plain weights in a step (default 1e9)")
    options = parser.parse_args()
    for way in options.ways:
        for shape in options.shapes:
            inputs, outputs = map(int, shape.split("x"))
            print(f"\n{way}, {inputs} to {outputs}", flush=True)
            for rows in options.rows:
                if rows > LARGEST_LOGITS and outputs > 10**5:
                    continue
                micros = measure(inputs, outputs, rows, Quantization.parse(way), options.bytes)
                cells = "   ".join(f"{name} {each:8.0f}" for name, each in micros.items())
                print(f"{rows:6} rows   {cells}", flush=True)


if __name__ == "__main__":
    main()
