"""Products of a quantized weight, the ways there are: what `models.quantized_layers.MANY` is to follow.

    python benchmarks/products.py                          4 bits, shapes of Qwen3-4B and FLUX.2 klein 4B, on a GPU
    python benchmarks/products.py --ways 4 8 mxfp4 nvfp4
    uv run python benchmarks/products.py --shapes 64x128 --rows 1 8 --often 2        does it run here?

Microseconds each, the best of five: `tokens` are rows as a batch of single tokens gives them, (rows, 1, channels), `rows`
are (rows, channels), `unpacked` dequantizes first, `plain` is the product of a weight that was never quantized.
"""

import argparse
import math
import time
from collections.abc import Callable

import mlx.core as mx

from models.quantize import Quantization

SHAPES = [
    "2560x1024",
    "2560x4096",
    "2560x9728",
    "9728x2560",
    "2560x151936",
    "3072x9216",
    "3072x27648",
    "12288x3072",
]
ROWS = [1, 4, 8, 16, 32, 64, 96, 128, 192, 256, 512, 4608]
LARGEST_LOGITS = 512


def fastest(call: Callable[[], mx.array], often: int) -> float:
    best = math.inf
    for _ in range(6):  # the first warms
        began = time.perf_counter()
        mx.eval([call() for _ in range(often)])
        best = min(best, time.perf_counter() - began)
    return best / often * 1e6


def measure(inputs: int, outputs: int, rows: int, way: Quantization, often: int) -> dict[str, float]:
    weight = (mx.random.normal((outputs, inputs)) * inputs**-0.5).astype(mx.bfloat16)
    x = mx.random.normal((rows, inputs)).astype(mx.bfloat16)
    parts = way.quantize(weight)
    packed, scales, biases = parts["weight"], parts["scales"], parts.get("biases")
    how = {"group_size": way.group_size, "bits": way.bits, "mode": way.mode}
    mx.eval(weight, x, packed, scales)
    calls = {
        "tokens": lambda: mx.quantized_matmul(x[:, None], packed, scales, biases, **how),
        "rows": lambda: mx.quantized_matmul(x, packed, scales, biases, **how),
        "unpacked": lambda: x @ mx.dequantize(packed, scales, biases, **how, dtype=mx.bfloat16).T,
        "plain": lambda: x @ weight.T,
    }
    if rows > LARGEST_LOGITS:
        del calls["tokens"]  # nobody writes so many texts at once
    return {name: fastest(call, often) for name, call in calls.items()}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", default=["4"], help="as --quantize takes them")
    parser.add_argument("--shapes", nargs="+", default=SHAPES, metavar="INxOUT")
    parser.add_argument("--rows", nargs="+", type=int, default=ROWS)
    parser.add_argument("--often", type=int, default=10, help="products in one evaluation")
    chosen = parser.parse_args()
    for way in chosen.ways:
        for shape in chosen.shapes:
            inputs, outputs = map(int, shape.split("x"))
            print(f"\n{way}, {inputs} to {outputs}", flush=True)
            for rows in chosen.rows:
                if rows > LARGEST_LOGITS and outputs > 10**5:
                    continue
                found = measure(inputs, outputs, rows, Quantization.parse(way), chosen.often)
                told = "   ".join(f"{name} {took:8.0f}" for name, took in found.items())
                print(f"{rows:6} rows   {told}", flush=True)


if __name__ == "__main__":
    main()
