"""How much sooner pictures come of a runner on each card: `diptych serve --replicas N` for each N, in turns.

    python benchmarks/replicas.py klein-4b --replicas 1,2       random weights at real dimensions, two GPUs
    uv run python benchmarks/replicas.py --rounds 2             Diptych's sample; on a processor they share it

In each round as many clients as `--clients` ask each gateway for one picture at once, as one would with a page full of
them. The seeds are the same for every N, and so must the pictures be.
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
        said = tempfile.TemporaryFile("w+")  # noqa: SIM115 - it ends with the process
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=said, text=True)
        assert process.stdout
        port = process.stdout.readline().strip()
        if not port:
            said.seek(0)
            raise SystemExit(f"the gateway of {replicas} ended ({process.wait()}): {said.read()[-2000:]}")
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


async def compare(model: str, chosen: argparse.Namespace) -> None:
    gateways: list[Gateway] = []
    try:
        for replicas in chosen.replicas:
            began = time.perf_counter()
            gateways.append(Gateway.start(model, replicas))
            seeds = range(1, 1 + 2 * replicas)  # so many that each runner draws
            await round_of(gateways[-1], model, chosen.size, seeds)
            took = time.perf_counter() - began
            print(
                f"{replicas} replicas: {len(seeds)} pictures {took:.1f} s after the start, the first ones",
                flush=True,
            )
        for number in range(chosen.rounds):
            seeds = range(100 * number + 1, 100 * number + 1 + chosen.clients)
            # Each is first as often as the other.
            for gateway in gateways if number % 2 else reversed(gateways):
                gateway.seconds.append(await round_of(gateway, model, chosen.size, seeds))
        report(gateways, chosen.clients)
    finally:
        for gateway in gateways:
            gateway.stop()


def report(gateways: list[Gateway], clients: int) -> None:
    first = gateways[0]
    for gateway in gateways:
        took = statistics.median(gateway.seconds)
        pairs = zip(first.seconds, gateway.seconds, strict=True)
        print(
            f"{gateway.replicas} replicas: {clients} pictures at once in {took:.3f} s "
            f"({min(gateway.seconds):.3f} to {max(gateway.seconds):.3f}, {len(gateway.seconds)} rounds), "
            f"{clients / took:.2f} a second, {statistics.median(a / b for a, b in pairs):.2f} times that of {first.replicas}"
        )
    seeds = [seed for seed in first.pictures if all(seed in gateway.pictures for gateway in gateways)]
    same = sum(len({gateway.pictures[seed] for gateway in gateways}) == 1 for seed in seeds)
    print(f"{same} of {len(seeds)} seeds gave one picture, byte for byte")


def whole_numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", nargs="?", help="a model of `diptych bench`, by name, or a checkpoint")
    parser.add_argument("--replicas", type=whole_numbers, default=[1, 2], help="default: 1,2")
    parser.add_argument("--clients", type=int, default=8, help="pictures asked for at once (default 8)")
    parser.add_argument("--size", type=int, help="pixels a side (default: 1024, the sample's own 128)")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    chosen.size = chosen.size or (1024 if chosen.model else 128)
    model = chosen.model or str(FOLDER)
    with tempfile.TemporaryDirectory(prefix="diptych-bench-") as scratch:
        if model in SPECS:
            write_texts(SPECS[model], Path(scratch))
            write_weights(SPECS[model], Path(scratch), Options())
            model = scratch
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(compare(model, chosen))


if __name__ == "__main__":
    main()
