"""What the gateway adds to a direct call to the runner: time to the first event, and throughput at eight clients.

    uv run python -m tests.benchmarks.gateway                 a toy model, made for the run
    uv run python -m tests.benchmarks.gateway --model M --rounds 20
    uv run python -m tests.benchmarks.gateway --clients-only  processor time per event of our HTTP client, and of httpx2

Both ways take turns, round by round, so that other load on the machine falls on both; the figures are medians.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from runner.bench.interleave import in_turn
from runner.bench.servers import processor_seconds
from runner.http.server import loop_factory
from runner.process.client import Client
from runner.process.supervisor import Server
from tests.toys.families import SIZES
from tests.toys.text import make_text_model

CLIENTS = 8
TOKENS = 200
# (seconds to the first event, events, seconds in all)
Timing = tuple[float, int, float]


async def ask(client: Client, model: str, tokens: int) -> Timing:
    body = {"model": model, "prompt": "Once upon a time", "options": {"num_predict": tokens, "seed": 1}}
    began = time.perf_counter()
    answer = await client.request("POST", "/completion", json.dumps(body).encode())
    assert answer.status == 200, await answer.read()
    first, events = 0.0, 0
    async for chunk in answer.chunks():
        first = first or time.perf_counter() - began
        events += chunk.count(b"\n")
    return first, events, time.perf_counter() - began


async def first_event(client: Client, model: str) -> float:
    """Milliseconds."""
    return statistics.median([(await ask(client, model, 1))[0] for _ in range(20)]) * 1e3


async def throughput(client: Client, model: str) -> float:
    """Events a second."""
    began = time.perf_counter()
    timings = await asyncio.gather(*(ask(client, model, TOKENS) for _ in range(CLIENTS)))
    return sum(timing[1] for timing in timings) / (time.perf_counter() - began)


async def compare(model: str, rounds: int) -> None:
    command = [sys.executable, "-m", "runner", "serve", model, "--port", "0"]
    gateway = subprocess.Popen(  # noqa: ASYNC220 - before anything is measured
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert gateway.stdout
        ways = {"gateway": Client(int(gateway.stdout.readline()))}
        async with Server(model) as server:
            assert server.port
            ways["direct"] = Client(server.port)
            await ask(ways["gateway"], model, TOKENS)
            await report(ways, model, rounds)
            await report_processor(ways["gateway"], gateway.pid, model)
    finally:
        gateway.terminate()
        gateway.wait()


async def report(ways: dict[str, Client], model: str, rounds: int) -> None:
    measures: dict[str, Callable[[Client, str], Awaitable[float]]] = {
        "first event (ms)": first_event,
        "events a second, 8 clients": throughput,
    }
    for label, measure in measures.items():
        values: dict[str, list[float]] = {way: [] for way in ways}
        for number in range(rounds):
            for way in in_turn(list(ways), number):
                values[way].append(await measure(ways[way], model))
        pairs = list(zip(values["gateway"], values["direct"], strict=True))
        median = {way: statistics.median(each) for way, each in values.items()}
        print(
            f"{label}: direct {median['direct']:.2f}, gateway {median['gateway']:.2f}; "
            f"round by round {statistics.median(a - b for a, b in pairs):+.2f}, "
            f"times {statistics.median(a / b for a, b in pairs):.3f}"
        )


async def report_processor(gateway: Client, pid: int, model: str) -> None:
    """What the gateway itself uses, however busy the machine is."""
    before = processor_seconds(pid)
    for _ in range(300):
        await ask(gateway, model, 1)
    request = (processor_seconds(pid) - before) / 300
    before, events = processor_seconds(pid), 0
    for _ in range(4):
        timings = await asyncio.gather(*(ask(gateway, model, TOKENS) for _ in range(CLIENTS)))
        events += sum(timing[1] for timing in timings)
    event = (processor_seconds(pid) - before - 4 * CLIENTS * request) / events
    print(f"the gateway's processor time: {request * 1e3:.2f} ms a request, {event * 1e6:.0f} µs an event")


async def compare_clients(model: str, rounds: int) -> None:
    import httpx2

    async with Server(model) as server:
        assert server.port
        ours = Client(server.port)
        limits = httpx2.Limits(max_connections=None)
        async with httpx2.AsyncClient(
            base_url=f"http://127.0.0.1:{server.port}", timeout=None, limits=limits
        ) as theirs:

            async def with_httpx2() -> int:
                body = {"prompt": "Once upon a time", "options": {"num_predict": TOKENS, "seed": 1}}
                events = 0
                async with theirs.stream("POST", "/completion", json=body) as response:
                    async for chunk in response.aiter_raw():
                        events += chunk.count(b"\n")
                return events

            async def with_ours() -> int:
                return (await ask(ours, model, TOKENS))[1]

            for label, way in (("runner.process.client", with_ours), ("httpx2", with_httpx2)):
                costs = [await cost(way) for _ in range(rounds)]
                print(f"{label}: {statistics.median(costs):.0f} µs of processor an event")


async def cost(way: Callable[[], Awaitable[int]]) -> float:
    before = resource.getrusage(resource.RUSAGE_SELF)
    events = sum(await asyncio.gather(*(way() for _ in range(CLIENTS))))
    after = resource.getrusage(resource.RUSAGE_SELF)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / events * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", help="a folder, a hub repo or an Ollama name (default: a toy)")
    parser.add_argument(
        "--size", choices=list(SIZES), default="nano", help="of the toy (default %(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients-only", action="store_true", help="compare the HTTP clients instead")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        model = options.model or str(make_text_model(Path(scratch) / "toy", **SIZES[options.size]))
        run = compare_clients if options.clients_only else compare
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run(model, options.rounds))


if __name__ == "__main__":
    main()
