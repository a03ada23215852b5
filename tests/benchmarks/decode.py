"""The decode loop alone, in process: a Qwen3 of any size with random weights, on whatever device there is.

    uv run python -m tests.benchmarks.decode --layers 2 --hidden 64 --vocab 512 --steps 16     does it run here?
    python -m tests.benchmarks.decode --batches 1 8 32 64                                      Qwen3-4B, on a GPU

`bare` is mlx-lm's network in a loop: cache, argmax, the next step queued before the last one is read. `library` is
mlx-lm's batch generator. `ours` is the runner's batch: greedy, and with sampling.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import replace

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map
from mlx_lm.generate import BatchGenerator
from mlx_lm.models import qwen3
from mlx_lm.models.cache import make_prompt_cache

from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode.attention import patch_attention
from models.language.decode.matmul import patch_matmul
from runner.bench.engines.with_mlx_lm import GreedyLoop
from runner.engine import device

Prompts = list[list[int]]


def make_prompts(rows: int, length: int, vocab: int) -> Prompts:
    return [[(row * 31 + at * 7) % vocab for at in range(length)] for row in range(rows)]


def make_model(options: argparse.Namespace) -> nn.Module:
    arguments = qwen3.ModelArgs(
        model_type="qwen3",
        hidden_size=options.hidden,
        num_hidden_layers=options.layers,
        intermediate_size=options.intermediate or options.hidden * 19 // 5,
        num_attention_heads=options.heads,
        num_key_value_heads=options.kv_heads,
        head_dim=options.head_dim,
        rms_norm_eps=1e-6,
        vocab_size=options.vocab,
        max_position_embeddings=40960,
        rope_theta=1e6,
        tie_word_embeddings=True,
    )
    model = qwen3.Model(arguments)
    dtype = getattr(mx, options.dtype)

    def randomize(weight: mx.array) -> mx.array:
        drawn = (
            mx.random.normal(weight.shape, dtype=dtype) * 0.02 if weight.ndim > 1 else weight.astype(dtype)
        )
        mx.eval(drawn)
        return drawn

    model.update(tree_map(randomize, model.parameters()))
    if options.quantize:
        nn.quantize(model, bits=options.quantize)
        patch_matmul(model)
        mx.eval(model.parameters())
    patch_attention(model)  # as loading does: keys and values in blocks need it
    return model.eval()


def bare(model: nn.Module, prompts: Prompts, steps: int) -> float:
    loop = GreedyLoop(model, prompts)
    began = time.perf_counter()
    loop.run(steps)
    return steps * len(prompts) / (time.perf_counter() - began)


def library(model: nn.Module, prompts: Prompts, steps: int) -> float:
    generator = BatchGenerator(
        model, max_tokens=steps + 1, completion_batch_size=len(prompts), prefill_batch_size=len(prompts)
    )
    generator.insert(prompts, [steps + 1] * len(prompts))
    while len(generator.next()[1]) < len(prompts):
        continue
    began = time.perf_counter()
    count = 0
    while responses := generator.next()[1]:
        count += len(responses)
    took = time.perf_counter() - began
    generator.close()
    return count / took


def decoding(model: nn.Module, prompts: Prompts, tokens: int, sampling: Sampling | None = None) -> Batch:
    """The runner's batch once every prompt is read, with at least `tokens` tokens of each still to come."""
    vocab = int(model(mx.zeros((1, 1), dtype=mx.uint32)).shape[-1])
    batch = Batch(model, vocab, lambda: make_prompt_cache(model), PrefixCache(0), max_rows=len(prompts))
    for row, prompt in enumerate(prompts):
        # Prompts are read one after another, and those that are read decode meanwhile.
        batch.add(Sequence(row, prompt, tokens + 4 * len(prompts), replace(sampling or Sampling(), seed=row)))
    while batch.decoding < len(prompts):
        batch.step()
    batch.step()
    return batch


def ours(model: nn.Module, prompts: Prompts, steps: int, sampling: Sampling | None = None) -> float:
    batch = decoding(model, prompts, steps + 1, sampling)
    began = time.perf_counter()
    count = sum(len(batch.step()) for _ in range(steps))
    return count / (time.perf_counter() - began)


def sampled(model: nn.Module, prompts: Prompts, steps: int) -> float:
    return ours(model, prompts, steps, Sampling(temperature=0.8, top_k=40, top_p=0.9))


def nucleus(model: nn.Module, prompts: Prompts, steps: int) -> float:
    return ours(model, prompts, steps, Sampling(temperature=0.8, top_p=0.9))


WAYS: dict[str, Callable[[nn.Module, Prompts, int], float]] = {
    "bare": bare,
    "library": library,
    "ours": ours,
    "ours, top_k": sampled,
    "ours, top_p": nucleus,
}


def main() -> None:
    device.prepare(texts=True)
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32, 64])
    parser.add_argument("--steps", type=int, default=128)
    parser.add_argument("--prompt", type=int, default=64, help="tokens in each prompt")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--hidden", type=int, default=2560)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--intermediate", type=int, help="default: 3.8 times hidden")
    parser.add_argument("--heads", type=int, default=32)
    parser.add_argument("--kv-heads", type=int, default=8)
    parser.add_argument("--head-dim", type=int, default=128)
    parser.add_argument("--vocab", type=int, default=151936)
    parser.add_argument("--quantize", type=int, metavar="BITS")
    parser.add_argument("--dtype", choices=("bfloat16", "float16", "float32"), default="bfloat16")
    options = parser.parse_args()
    model = make_model(options)
    print(json.dumps({"device": str(mx.default_device()), "memory": mx.get_active_memory()}))
    for size in options.batches:
        prompts = make_prompts(size, options.prompt, options.vocab)
        for name in options.ways:
            WAYS[name](model, prompts, 8)  # compiles and warms
            speed = WAYS[name](model, prompts, options.steps)
            print(json.dumps({"batch": size, "way": name, "tokens_per_second": round(speed, 1)}), flush=True)


if __name__ == "__main__":
    main()
