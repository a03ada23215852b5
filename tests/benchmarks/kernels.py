"""Where a GPU's time goes, kernel by kernel: of a denoising step, a decode, a picture, or a step of writing text.

    python -m tests.benchmarks.kernels klein-4b --parts step,decode,strips     on an NVIDIA card, with torch for its profiler
    python -m tests.benchmarks.kernels qwen3-4b --batches 1,8,32

`busy` is the time in which a kernel ran, `wall` the time from the start of the first to the end of the last: the
difference is time in which the card waited for the processor. Weights are random, at real dimensions.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from runner.engine import device

device.prepare(texts=True)

import mlx.core as mx  # noqa: E402

from models.language.batch.batch import Batch  # noqa: E402
from runner.bench.engines.with_mlx import Engine  # noqa: E402
from runner.bench.options import PROMPT  # noqa: E402
from runner.bench.specs import SPECS, write_texts  # noqa: E402

STEPS = 16  # of writing text, traced together


def traced(work: Callable[[], Any]) -> list[dict[str, Any]]:
    """The kernels that ran, with their starts and durations in microseconds."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        work()
        mx.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        profiler.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]


def show(title: str, work: Callable[[], Any], most: int) -> None:
    work()
    mx.synchronize()
    began = time.perf_counter()
    work()
    mx.synchronize()
    plain = time.perf_counter() - began
    kernels = traced(work)
    if not kernels:
        print(f"== {title}: {plain * 1e3:.2f} ms; the profiler saw no kernel")
        return
    wall = max(k["ts"] + k["dur"] for k in kernels) - min(k["ts"] for k in kernels)
    busy = sum(k["dur"] for k in kernels)
    print(
        f"== {title}: {plain * 1e3:.2f} ms; traced: wall {wall / 1e3:.2f}, busy {busy / 1e3:.2f} ms, "
        f"{len(kernels)} kernels"
    )
    sums: dict[str, list[float]] = defaultdict(list)
    for kernel in kernels:
        sums[kernel["name"]].append(kernel["dur"])
    for name, each in sorted(sums.items(), key=lambda item: -sum(item[1]))[:most]:
        total = sum(each)
        print(f"  {total / 1e3:8.3f} ms {len(each):5} x {total / len(each):8.1f} us  {name[:150]}")


def pictures(options: argparse.Namespace) -> None:
    spec = SPECS[options.model]
    width, height = (int(side) for side in options.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        write_texts(spec, Path(folder))
        job = {"folder": folder, "pipeline": spec.pipeline, "random": True, "dtype": None, "prompt": PROMPT}
        engine = Engine("mlx", job | {"quantize": options.quantize})
        for part in options.parts.split(","):
            if part == "step":
                engine.run(width, height, 2, 1)
                show("picture of 4 steps", partial(engine.run, width, height, 4, 1), options.most)
            else:
                show(part, partial(engine.decode, width, height, part == "strips"), options.most)


def texts(options: argparse.Namespace) -> None:
    from runner.bench.engines.with_mlx_lm import GreedyLoop
    from tests.benchmarks import decode

    config = SPECS[options.model].parts[""]
    names = {
        "hidden": "hidden_size", "layers": "num_hidden_layers", "intermediate": "intermediate_size",
        "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "vocab": "vocab_size",
    }  # fmt: skip
    dimensions = {name: config[key] for name, key in names.items()}
    bits = int(options.quantize) if options.quantize else None
    model = decode.make_model(argparse.Namespace(**dimensions, dtype="bfloat16", quantize=bits))
    for rows in map(int, options.batches.split(",")):
        prompts = decode.make_prompts(rows, options.prompt, 1000)
        if not bits:
            loop = GreedyLoop(model, prompts)
            show(f"{STEPS} bare steps of {rows}", partial(loop.run, STEPS), options.most)
        batch = decode.decoding(model, prompts, 10_000)

        def ours(batch: Batch = batch) -> None:
            for _ in range(STEPS):
                batch.step()

        show(f"{STEPS} of our steps of {rows}", ours, options.most)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", choices=SPECS)
    parser.add_argument("--parts", default="step,decode,strips")
    parser.add_argument("--size", default="1024x1024")
    parser.add_argument("--quantize")
    parser.add_argument("--batches", default="1,8,32")
    parser.add_argument("--prompt", type=int, default=64, help="tokens in each prompt")
    parser.add_argument("--most", type=int, default=14, help="kernels to list (default %(default)s)")
    options = parser.parse_args()
    pictures(options) if SPECS[options.model].draws else texts(options)


if __name__ == "__main__":
    main()
