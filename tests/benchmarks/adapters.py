"""What an adapter costs: a step of a transformer with random weights, without and with an adapter of all its layers, in turns.

    python -m tests.benchmarks.adapters                       klein 4B's layers, one block of each kind
    python -m tests.benchmarks.adapters --layers 99 --size 1024    the whole of it, on a card
    python -m tests.benchmarks.adapters --quantize 4 --rank 64

On a processor times are processor time, which company does not change; on a card they are seconds on the clock.
"""

import argparse
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

from runner.engine import device

# ruff: noqa: E402
# Before MLX is imported, which would otherwise multiply many times slower.
device.prepare()

import mlx.core as mx
import mlx.nn as nn

from models.adapters.adapter import read_adapter
from models.adapters.layers import AdaptedLinear, attach
from models.adapters.names import LayerNames, Target
from models.adapters.spellings import FLUX2
from models.checkpoint.quantize import Quantization, quantize
from models.checkpoint.random_weights import fill
from models.checkpoint.weights import fused_parts
from models.transformers.flux2 import WEIGHTS, Flux2Config, Flux2Transformer
from pipelines.latents import flux2_image_ids, flux2_text_ids
from runner.bench.specs import SPECS

TEXT, PIXELS_A_TOKEN = 512, 16


def layers_of(network: nn.Module, names: LayerNames) -> dict[str, Target]:
    """The checkpoint's layers of the blocks: queries, keys and values each by themselves."""
    paths = [
        path for path, layer in network.named_modules() if isinstance(layer, nn.Linear) and "blocks" in path
    ]
    parts = [part for path in paths for part in fused_parts(path, WEIGHTS.fuse) or [path]]
    return {part: target for part in parts if (target := names.find(part))}


def write(layers: dict[str, Target], rank: int, path: Path, seed: int) -> None:
    """An adapter of these layers, as diffusers writes them."""
    tensors = {}
    for name, target in layers.items():
        down = mx.random.normal((rank, target.inputs), key=mx.random.key(seed)) * 0.01
        tensors[f"transformer.{name}.lora_A.weight"] = down.astype(mx.bfloat16)
        tensors[f"transformer.{name}.lora_B.weight"] = mx.full((target.outputs, rank), 0.01, mx.bfloat16)
    mx.save_safetensors(str(path), tensors)


def seconds(work: Callable[[], object]) -> float:
    if mx.default_device() == mx.gpu:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began
    before = resource.getrusage(resource.RUSAGE_SELF)
    work()
    after = resource.getrusage(resource.RUSAGE_SELF)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--layers", type=int, default=1, help="blocks of each kind (default: %(default)s)")
    add("--rank", type=int, default=16, help="default: %(default)s")
    add("--size", type=int, default=256, help="side of the picture (default: %(default)s)")
    add("--rounds", type=int, default=3, help="default: %(default)s")
    add("--quantize", help="a format for the layers")
    options = parser.parse_args()
    measure(options)


def measure(options: argparse.Namespace) -> None:
    gpu = mx.default_device() == mx.gpu
    spec = SPECS["klein-4b"].cut(options.layers)
    config = Flux2Config.from_dict(spec.parts["transformer"])
    network = Flux2Transformer(config)
    names = LayerNames(network, WEIGHTS, FLUX2)
    layers = layers_of(network, names)
    fill(network, mx.bfloat16 if gpu else mx.float32)
    if options.quantize:
        quantize(network, Quantization.parse(options.quantize))
    mx.eval(network.parameters())
    side = options.size // PIXELS_A_TOKEN
    text = mx.random.normal((1, TEXT, config.joint_attention_dim))
    prepared = network.prepare(text, flux2_text_ids(TEXT), flux2_image_ids(side, side))
    latents = mx.random.normal((1, side * side, config.in_channels))
    modulation = network.modulation([0.5]).at(0)
    mx.eval(prepared, latents, modulation)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{seed}.safetensors" for seed in range(2)]
        for seed, path in enumerate(paths):
            write(layers, options.rank, path, seed)
        beside: dict[str, AdaptedLinear] = {}

        def switch(path: Path | None) -> None:
            adapters = (
                [] if path is None else [read_adapter(path, path.stem, "klein", {"transformer": names})]
            )
            attach(network, [(adapter.changes["transformer"], 0.8) for adapter in adapters], beside)

        switching = []
        times: dict[str, list[float]] = {"without": [], "with": []}
        steps = {name: _step(network, beside, gpu, name == "with") for name in times}
        for index in range(options.rounds + 1):
            for name, path in (("without", None), ("with", paths[index % 2])):
                took = seconds(lambda path=path: switch(path))
                if path:
                    switching.append(took)
                if index == 0:
                    mx.eval(steps[name](latents, prepared, modulation))
                else:
                    times[name].append(
                        seconds(lambda name=name: mx.eval(steps[name](latents, prepared, modulation)))
                    )
    without, with_adapter = median(times["without"]), median(times["with"])
    print(f"step without: {without:.3f} s ({', '.join(f'{one:.3f}' for one in times['without'])})")
    print(f"step with:    {with_adapter:.3f} s ({', '.join(f'{one:.3f}' for one in times['with'])})")
    print(f"an adapter of rank {options.rank} costs {100 * (with_adapter / without - 1):.1f}% of a step")
    print(f"a switch, with reading the file: {median(switching[1:]):.3f} s")


def _step(
    network: nn.Module, beside: dict[str, AdaptedLinear], gpu: bool, adapted: bool
) -> Callable[..., mx.array]:
    """Compiled on a card, as pipelines have it."""
    if not gpu:
        return network.step
    compiled: dict[str, Callable[..., mx.array]] = {}

    def step(*arguments: object) -> mx.array:
        if "step" not in compiled:
            inputs = [layer.terms for layer in beside.values()]
            compiled["step"] = (
                mx.compile(network.step, inputs=inputs) if adapted else mx.compile(network.step)
            )
        return compiled["step"](*arguments)

    return step


if __name__ == "__main__":
    main()
