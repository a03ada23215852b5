"""How much faster pictures are with a runner on each card: `diptych serve --replicas N` for each N, in turns.

    python -m tests.benchmarks.replicas klein-4b --replicas 1,2     random weights at real dimensions, two GPUs
    uv run python -m tests.benchmarks.replicas --rounds 1           Diptych's sample; on a processor they share it

In each round `--clients` clients ask each gateway for one picture each, all at once. The seeds are the same for every N,
and so must the pictures be.
"""

import argparse
import asyncio
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.bench.interleave import in_turn
from runner.bench.options import PROMPT, Options
from runner.bench.run import write_weights
from runner.bench.specs import SPECS, write_texts
from runner.http.server import loop_factory
from runner.inspect.sample import FOLDER
from runner.process.client import Client


@dataclass
class Gateway:
    """One real gateway, its model loaded on so many runners."""

    replicas: int
    process: subprocess.Popen[str]
    client: Client
    seconds: list[float] = field(default_factory=list)
    pictures: dict[int, str] = field(default_factory=dict)  # hashes, by seed

    @classmethod
    def start(cls, model: str, replicas: int) -> "Gateway":
        options = ["--port", "0", "--replicas", str(replicas), "--keep-alive", "-1"]
        command = [sys.executable, "-m", "runner", "serve", *options, model]
        log = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it ends with the process
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        assert process.stdout
        port = process.stdout.readline().strip()
        if not port:
            log.seek(0)
            raise SystemExit(f"the gateway of {replicas} ended ({process.wait()}): {log.read()[-2000:]}")
        return cls(replicas, process, Client(int(port)))

    def stop(self) -> None:
        self.client.close()
        self.process.terminate()
        self.process.wait()


async def draw(gateway: Gateway, model: str, size: int, seed: int) -> None:
    body = {"model": model, "prompt": PROMPT, "seed": seed, "width": size, "height": size}
    answer = await gateway.client.request("POST", "/completion", json.dumps(body).encode())
    last: dict[str, Any] = {}
    async for line in answer.lines():
        last = json.loads(line)
    if not last.get("done"):
        raise SystemExit(f"{gateway.replicas} replicas answered {answer.status}: {last}")
    gateway.pictures[seed] = hashlib.sha256(last["image"].encode()).hexdigest()


async def round_of(gateway: Gateway, model: str, size: int, seeds: range) -> float:
    began = time.perf_counter()
    await asyncio.gather(*(draw(gateway, model, size, seed) for seed in seeds))
    return time.perf_counter() - began


async def compare(model: str, options: argparse.Namespace) -> None:
    gateways: list[Gateway] = []
    try:
        for replicas in options.replicas:
            began = time.perf_counter()
            gateways.append(Gateway.start(model, replicas))
            seeds = range(1, 1 + 2 * replicas)  # so many that each runner draws
            await round_of(gateways[-1], model, options.size, seeds)
            seconds = time.perf_counter() - began
            print(f"{replicas} replicas: the first {len(seeds)} pictures after {seconds:.1f} s", flush=True)
        for number in range(options.rounds):
            seeds = range(100 * number + 1, 100 * number + 1 + options.clients)
            for gateway in in_turn(gateways, number):
                gateway.seconds.append(await round_of(gateway, model, options.size, seeds))
        report(gateways, options.clients)
    finally:
        for gateway in gateways:
            gateway.stop()


def report(gateways: list[Gateway], clients: int) -> None:
    first = gateways[0]
    for gateway in gateways:
        median = statistics.median(gateway.seconds)
        pairs = zip(first.seconds, gateway.seconds, strict=True)
        print(
            f"{gateway.replicas} replicas: {clients} pictures at once in {median:.3f} s "
            f"({min(gateway.seconds):.3f} to {max(gateway.seconds):.3f}, {len(gateway.seconds)} rounds), "
            f"{clients / median:.2f} a second, {statistics.median(a / b for a, b in pairs):.2f} times that of {first.replicas}"
        )
    seeds = [seed for seed in first.pictures if all(seed in gateway.pictures for gateway in gateways)]
    same = sum(len({gateway.pictures[seed] for gateway in gateways}) == 1 for seed in seeds)
    print(f"{same} of {len(seeds)} seeds gave the same picture, byte for byte")


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "model", nargs="?", help="a name that `diptych bench` knows, or a checkpoint (default: the sample)"
    )
    parser.add_argument("--replicas", type=whole_numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--clients", type=int, default=8, help="pictures asked for at once (default 8)")
    parser.add_argument("--size", type=int, help="pixels a side (default: 1024, the sample's own 128)")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    options.size = options.size or (1024 if options.model else 128)
    model = options.model or str(FOLDER)
    with tempfile.TemporaryDirectory(prefix="diptych-bench-") as scratch:
        if model in SPECS:
            write_texts(SPECS[model], Path(scratch))
            write_weights(SPECS[model], Path(scratch), Options())
            model = scratch
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(compare(model, options))


if __name__ == "__main__":
    main()
