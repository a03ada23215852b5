"""One true-width block of each kind, random weights: `blocks.py ours` or `blocks.py mflux`, a JSON line a block and round.

benchmarks/image.py --blocks runs both in turns. It imports only the engine that it is asked for.
"""

import argparse
import ctypes
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Step = Callable[[], Any]

TEXT = {"klein": 512, "z-image": 64, "flux": 256}
KLEIN = {"width": 3072, "heads": 24}
Z_IMAGE = {"width": 3840, "heads": 30}
FLUX = {"width": 3072, "heads": 24}
HEAD = 128


def load_blas() -> None:
    """The same for both engines; the runner does this by itself."""
    try:
        ctypes.CDLL("libopenblas.so.0", mode=ctypes.RTLD_GLOBAL)
    except OSError:
        print("no OpenBLAS: products are MLX's own", file=sys.stderr)


def ours(picture: int, dtype: str) -> Iterator[tuple[str, Step]]:
    import mlx.core as mx
    import numpy as np

    from models.layers.rope import rotary_table
    from models.transformers import flux, flux2, z_image
    from runner.engine import device

    device.prepare()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    kind = getattr(mx, dtype)
    new, ready = _makers(mx, kind)
    table = lambda tokens, axes, theta: rotary_table(  # noqa: E731
        np.arange(tokens)[:, None].repeat(len(axes), 1), axes, theta
    )
    config2 = flux2.Flux2Config(128, 1, 1, HEAD, 24, 7680, (32, 32, 32, 32))
    text, image = new(1, TEXT["klein"], 3072), new(1, picture, 3072)
    turns = table(TEXT["klein"] + picture, (32,) * 4, 2000)
    rows = flux2.Modulation(new(6, 3072), new(6, 3072), new(3, 3072), new(2, 3072))
    block = ready(flux2.DoubleBlock(config2))
    yield "klein, double", _compiled(mx, lambda: block(text, image, turns, rows), block)
    stream = new(1, TEXT["klein"] + picture, 3072)
    single = ready(flux2.SingleBlock(config2))
    yield "klein, single", _compiled(mx, lambda: single(stream, turns, rows.single), single)

    config_z = z_image.ZImageConfig(16, 3840, 1, 1, 30, 2560, (32, 48, 48))
    layer = ready(z_image.Block(config_z))
    tokens, norms = new(1, TEXT["z-image"] + picture, 3840), new(4, 3840)
    turns_z = table(TEXT["z-image"] + picture, (32, 48, 48), 256)
    yield "z-image", _compiled(mx, lambda: layer(tokens, norms, turns_z), layer)

    config1 = flux.FluxConfig(64, 1, 1, HEAD, 24, 4096, 768)
    text1, image1 = new(1, TEXT["flux"], 3072), new(1, picture, 3072)
    turns1 = table(TEXT["flux"] + picture, (16, 56, 56), 10000)
    double1, rows6, rows3 = ready(flux.DoubleBlock(config1)), new(1, 6, 3072), new(1, 3, 3072)
    yield "flux, double", _compiled(mx, lambda: double1(text1, image1, turns1, rows6, rows6), double1)
    stream1, single1 = new(1, TEXT["flux"] + picture, 3072), ready(flux.SingleBlock(config1))
    yield "flux, single", _compiled(mx, lambda: single1(stream1, turns1, rows3), single1)


def mflux(picture: int, dtype: str) -> Iterator[tuple[str, Step]]:
    import mlx.core as mx
    from mflux.models.flux2.model.flux2_transformer.single_transformer_block import (
        Flux2SingleTransformerBlock,
    )
    from mflux.models.flux2.model.flux2_transformer.transformer_block import Flux2TransformerBlock

    kind = getattr(mx, dtype)
    new, ready = _makers(mx, kind)
    tokens = TEXT["klein"] + picture
    turns = (new(tokens, HEAD // 2), new(tokens, HEAD // 2))
    text, image, row = new(1, TEXT["klein"], 3072), new(1, picture, 3072), new(1, 1, 3072)
    rows = ((row, row, row), (row, row, row))
    block = ready(Flux2TransformerBlock(3072, 24, HEAD))
    yield "klein, double", _compiled(mx, lambda: block(image, text, rows, rows, turns), block)
    stream, single = new(1, tokens, 3072), ready(Flux2SingleTransformerBlock(3072, 24, HEAD))
    yield "klein, single", _compiled(mx, lambda: single(stream, rows[0], turns), single)

    from mflux.models.z_image.model.z_image_transformer.transformer_block import ZImageTransformerBlock

    layer = ready(ZImageTransformerBlock(3840, 30))
    tokens_z = TEXT["z-image"] + picture
    x, turns_z, time_embedding = new(1, tokens_z, 3840), new(tokens_z, HEAD // 2, 2), new(1, 256)
    mask = mx.ones((1, tokens_z), dtype=mx.bool_)
    yield "z-image", _compiled(mx, lambda: layer(x, mask, turns_z, time_embedding), layer)

    from mflux.models.flux.model.flux_transformer.joint_transformer_block import JointTransformerBlock
    from mflux.models.flux.model.flux_transformer.single_transformer_block import SingleTransformerBlock

    tokens1 = TEXT["flux"] + picture
    text1, image1, pooled = new(1, TEXT["flux"], 3072), new(1, picture, 3072), new(1, 3072)
    turns1 = new(1, 1, tokens1, HEAD // 2, 2, 2)
    double1 = ready(JointTransformerBlock(0))
    yield "flux, double", _compiled(mx, lambda: double1(image1, text1, pooled, turns1), double1)
    stream1, single1 = new(1, tokens1, 3072), ready(SingleTransformerBlock(0))
    yield "flux, single", _compiled(mx, lambda: single1(stream1, pooled, turns1), single1)


def _makers(mx: Any, kind: Any) -> tuple[Callable[..., Any], Callable[[Any], Any]]:
    from mlx.utils import tree_map

    def new(*shape: int) -> Any:
        return mx.random.normal(shape, dtype=kind)

    def ready(module: Any) -> Any:
        module.update(
            tree_map(lambda p: (mx.random.normal(p.shape) * 0.02).astype(kind), module.parameters())
        )
        mx.eval(module.parameters())
        return module

    return new, ready


def _compiled(mx: Any, call: Step, module: Any) -> Step:
    run = mx.compile(call, inputs=[module.state])

    def once() -> None:
        mx.eval(run())

    return once


ENGINES = {"ours": ours, "mflux": mflux}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--pixels", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--only", default="", help="blocks whose name holds this")
    chosen = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent.parent))
    load_blas()
    for name, step in ENGINES[chosen.engine]((chosen.pixels // 16) ** 2, chosen.dtype):
        if chosen.only not in name:
            continue
        step()  # compiles
        took = []
        for _ in range(chosen.repeats):
            began = time.perf_counter()
            step()
            took.append(time.perf_counter() - began)
        print(json.dumps({"block": name, "seconds": took}), flush=True)


if __name__ == "__main__":
    main()
