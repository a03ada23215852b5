"""One true-width transformer block of each kind, with random weights: Diptych's, and mflux's beside it, in turns.

    uv run python -m tests.benchmarks.blocks --only single --rounds 1     does it run here?
    uv run python -m tests.benchmarks.blocks --mflux PATH                 PATH: an interpreter that has mflux 0.24

mflux needs an environment of its own: on Linux it pins another MLX. On a processor both load OpenBLAS and compute in
float32. The ratio is our median over mflux's: below 1 is faster.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

from tests import ROOT

Step = Callable[[], Any]

TEXT = {"klein": 512, "z-image": 64, "flux": 256}  # prompt tokens
HEAD = 128


def ours(picture: int, dtype: str) -> Iterator[tuple[str, Step]]:
    from runner.engine import device

    device.prepare()

    import mlx.core as mx
    import numpy as np

    from models.layers.rope import rotary_table
    from models.transformers import flux, flux2, z_image

    new, ready = _makers(mx, dtype)
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

    if mx.default_device() == mx.cpu:
        mx.disable_compile()  # as Diptych does on a processor
    new, ready = _makers(mx, dtype)
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


def _makers(mx: Any, dtype: str) -> tuple[Callable[..., Any], Callable[[Any], Any]]:
    """What draws a random array, and what fills a module with random weights."""
    from mlx.utils import tree_map

    kind = getattr(mx, dtype)

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


def measure(options: argparse.Namespace) -> None:
    """One engine in this process: a line of JSON for each block."""
    for name, step in ENGINES[options.engine]((options.pixels // 16) ** 2, options.dtype):
        if options.only not in name:
            continue
        step()  # compiles
        seconds = []
        for _ in range(options.repeats):
            began = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - began)
        print(json.dumps({"block": name, "seconds": seconds}), flush=True)


def run(python: str, engine: str, options: argparse.Namespace) -> dict[str, list[float]]:
    from runner.bench.servers import environment

    command = [python, "-m", "tests.benchmarks.blocks", "--engine", engine, "--pixels", str(options.pixels)]
    command += ["--repeats", str(options.repeats), "--dtype", options.dtype, "--only", options.only]
    variables = environment() | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=variables)
    if done.returncode:
        raise SystemExit(f"{engine} failed:\n{done.stderr}")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {line["block"]: line["seconds"] for line in lines}


def compare(options: argparse.Namespace) -> None:
    from runner.bench.interleave import in_turn
    from runner.terminal import table

    engines = {"ours": sys.executable} | ({"mflux": options.mflux} if options.mflux else {})
    times: dict[str, dict[str, list[float]]] = {engine: defaultdict(list) for engine in engines}
    for number in range(options.rounds):
        for engine in in_turn(list(engines), number):
            for block, seconds in run(engines[engine], engine, options).items():
                times[engine][block] += seconds
        print(f"round {number + 1} of {options.rounds} done", file=sys.stderr)
    rows = []
    for name, seconds in times["ours"].items():
        medians = [statistics.median(seconds)]
        if name in times.get("mflux", {}):
            medians.append(statistics.median(times["mflux"][name]))
        ratio = f"{medians[0] / medians[1]:.2f}" if len(medians) > 1 else ""
        rows.append((name, *(f"{median * 1e3:.1f} ms" for median in medians), ratio))
    print(f"{options.pixels} px, {options.dtype}; medians")
    print(table(("block", *engines, "ratio" if options.mflux else ""), rows))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mflux", metavar="PATH", help="an interpreter with mflux; without it, ours alone")
    parser.add_argument("--pixels", type=int, default=256, help="side of the picture (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="turns of each engine (default %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="of a block in a turn (default %(default)s)")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16", "float16"))
    parser.add_argument("--only", default="", metavar="TEXT", help="blocks whose name contains this")
    parser.add_argument("--engine", choices=ENGINES, help="measure this one in this process, as JSON lines")
    options = parser.parse_args()
    measure(options) if options.engine else compare(options)


if __name__ == "__main__":
    main()
