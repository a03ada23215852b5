"""What one long prompt costs those who are writing: their gaps, and the memory of all.

    python -m tests.benchmarks.long_prompt qwen3-4b --writers 31 --long 16000      random weights at real dimensions
    uv run python -m tests.benchmarks.long_prompt --model FOLDER --writers 4 --long 1500

The writers stream; when they have been going for a while, one request brings the long prompt.
"""

import argparse
import asyncio
import itertools
import statistics
import tempfile
import time
from pathlib import Path

from runner.bench.options import Options
from runner.bench.run import write_weights
from runner.bench.specs import SPECS, write_texts
from runner.process.supervisor import Server
from runner.protocol.text import Options as Sampling
from runner.protocol.text import TextRequest


async def stream(server: Server, prompt: str, tokens: int, seed: int) -> list[float]:
    """When each event came."""
    # A temperature keeps random weights from ending early or repeating themselves.
    options = Sampling(num_predict=tokens, temperature=1.0, seed=seed)
    return [
        time.perf_counter()
        async for event in server.completion(TextRequest(prompt=prompt, options=options))
        if not getattr(event, "done", False)
    ]


async def measure(model: str, arguments: argparse.Namespace) -> None:
    options = ["--kv-memory", arguments.kv_memory] if arguments.kv_memory else []
    async with Server(model, options=options, load_timeout=600) as server:
        await stream(server, "harbour " * 20, 8, 1)  # whatever is compiled at the first request
        tokens_a_word = len(await server.tokenize("morning " * 100)) / 100
        text = "morning " * int(arguments.long / tokens_a_word)
        before = (await server.refresh())["Memory"]
        writers = [
            asyncio.create_task(stream(server, f"Writer {n}: " + "gull boat net " * 20, arguments.tokens, n))
            for n in range(arguments.writers)
        ]
        await asyncio.sleep(arguments.after)
        began = time.perf_counter()
        long = asyncio.create_task(stream(server, text, 16, 0))
        most = before
        while not long.done():
            most = max(most, (await server.refresh())["Memory"])
            await asyncio.sleep(0.2)
        times = await asyncio.gather(*writers)
        status = await server.refresh()
    gaps = sorted(
        later - earlier for row in times for earlier, later in itertools.pairwise(row) if later > began
    )
    if not gaps:
        raise SystemExit("the writers were done before the long prompt came: ask for more --tokens")
    first = long.result()[0] - began
    print(
        f"gaps of the writers: median {statistics.median(gaps) * 1000:.0f} ms, p99 {gaps[int(len(gaps) * 0.99)] * 1000:.0f} ms, longest {gaps[-1] * 1000:.0f} ms"
    )
    print(f"the long prompt's first token after {first:.2f} s")
    print(
        f"memory: {before / 1e9:.1f} GB before, {most / 1e9:.1f} GB at most; {status['kv_limit']} tokens may be held, {status['preemptions']} preemptions"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("spec", nargs="?", choices=[name for name, spec in SPECS.items() if not spec.draws])
    parser.add_argument("--model", help="a model instead, by any of its names")
    parser.add_argument("--writers", type=int, default=31)
    parser.add_argument("--long", type=int, default=16000, help="tokens of the long prompt (default: 16000)")
    parser.add_argument("--tokens", type=int, default=1000, help="that each writer writes (default: 1000)")
    parser.add_argument(
        "--after", type=float, default=2.0, help="seconds before the long prompt (default: 2)"
    )
    parser.add_argument("--kv-memory", help="as for diptych runner")
    arguments = parser.parse_args()
    if (arguments.spec is None) == (arguments.model is None):
        parser.error("one model is needed: a name from the list, or --model")
    if arguments.model:
        asyncio.run(measure(arguments.model, arguments))
        return
    with tempfile.TemporaryDirectory() as folder:
        spec = SPECS[arguments.spec]
        write_texts(spec, Path(folder))
        write_weights(spec, Path(folder), Options())
        asyncio.run(measure(folder, arguments))


if __name__ == "__main__":
    main()
