"""Where a GPU's time goes, kernel by kernel: of a denoising step, a decode, a picture, or a step of writing text.

    python benchmarks/kernels.py klein-4b --parts step,decode,strips      on an NVIDIA card, with torch for its profiler
    python benchmarks/kernels.py qwen3-4b --batches 1,8,32

`busy` is the time in which a kernel ran, `wall` from the first kernel's start to the last one's end: what lies between
the two, the card waited for the processor. Weights are random, at real dimensions.
"""

import argparse
import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

from runner.engine import device

device.prepare()

import mlx.core as mx  # noqa: E402

from runner.bench.engines.with_mlx import Engine  # noqa: E402
from runner.bench.options import PROMPT  # noqa: E402
from runner.bench.specs import SPECS, write_texts  # noqa: E402


def traced(work: Callable[[], Any]) -> list[dict[str, Any]]:
    """The kernels that ran, with their starts and durations in microseconds."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        work()
        mx.synchronize()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.json"
        found.export_chrome_trace(str(path))
        events = json.loads(path.read_text())["traceEvents"]
    return [event for event in events if event.get("cat") in ("kernel", "gpu_memcpy", "gpu_memset")]


def told(title: str, work: Callable[[], Any], times: int, most: int) -> None:
    work()
    mx.synchronize()
    began = time.perf_counter()
    for _ in range(times):
        work()
    mx.synchronize()
    plain = (time.perf_counter() - began) / times
    kernels = traced(lambda: [work() for _ in range(times)])
    if not kernels:
        print(f"== {title}: {plain * 1e3:.2f} ms; the profiler saw no kernel")
        return
    wall = max(k["ts"] + k["dur"] for k in kernels) - min(k["ts"] for k in kernels)
    busy = sum(k["dur"] for k in kernels)
    print(
        f"== {title}: {plain * 1e3:.2f} ms; traced: wall {wall / times / 1e3:.2f}, busy {busy / times / 1e3:.2f} ms, "
        f"{len(kernels) / times:.0f} kernels"
    )
    sums: dict[str, list[float]] = defaultdict(list)
    for kernel in kernels:
        sums[kernel["name"]].append(kernel["dur"])
    for name, each in sorted(sums.items(), key=lambda item: -sum(item[1]))[:most]:
        part = sum(each) / times / 1e3
        print(f"  {part:8.3f} ms {len(each) / times:7.1f} x {sum(each) / len(each):8.1f} us  {name[:150]}")


def pictures(chosen: argparse.Namespace) -> None:
    spec = SPECS[chosen.model]
    width, height = (int(side) for side in chosen.size.split("x"))
    with tempfile.TemporaryDirectory() as folder:
        write_texts(spec, Path(folder))
        job = {"folder": folder, "pipeline": spec.pipeline, "random": True, "dtype": None, "prompt": PROMPT}
        engine = Engine("mlx", job | {"quantize": chosen.quantize})
        for part in chosen.parts.split(","):
            if part == "step":
                engine.run(width, height, 2, 1)

                def work() -> None:
                    engine.run(width, height, 4, 1)

                told("picture of 4 steps", work, 1, chosen.most)
            else:

                def work(strips: bool = part == "strips") -> None:
                    print("   ", engine.decode(width, height, strips))

                told(part, work, 1, chosen.most)


def texts(chosen: argparse.Namespace) -> None:
    import decode
    from mlx_lm.models.cache import make_prompt_cache

    config = SPECS[chosen.model].parts[""]
    names = {
        "hidden": "hidden_size", "layers": "num_hidden_layers", "intermediate": "intermediate_size",
        "heads": "num_attention_heads", "kv_heads": "num_key_value_heads", "head_dim": "head_dim", "vocab": "vocab_size",
    }  # fmt: skip
    wanted = {name: config[key] for name, key in names.items()} | {"dtype": "bfloat16"}
    wanted["quantize"] = int(chosen.quantize) if chosen.quantize else None
    model = decode.make_model(argparse.Namespace(**wanted))
    for size in map(int, chosen.batches.split(",")):
        prompts = [[(row * 31 + i * 7) % 1000 for i in range(chosen.prompt)] for row in range(size)]
        cache = make_prompt_cache(model)
        token = mx.argmax(model(mx.array(prompts), cache=cache)[:, -1], axis=-1)
        mx.eval(token)

        def bare(cache: Any = cache, first: mx.array = token) -> None:
            token = first
            for _ in range(16):
                following = mx.argmax(model(token[:, None], cache=cache)[:, -1], axis=-1)
                mx.async_eval(following)
                token.tolist()
                token = following

        if not chosen.quantize:
            told(f"16 bare steps of {size}", bare, 1, chosen.most)
        batch = decode.decoding(model, prompts, 10_000)

        def ours(batch: Any = batch) -> None:
            for _ in range(16):
                batch.step()

        told(f"16 of our steps of {size}", ours, 1, chosen.most)


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
    parser.add_argument("--most", type=int, default=14, help="kernels that are listed")
    chosen = parser.parse_args()
    pictures(chosen) if SPECS[chosen.model].draws else texts(chosen)


if __name__ == "__main__":
    main()
