"""The load generator: a process of its own that keeps N clients busy, and reports what they saw.

Reads one JSON object (Load's fields) on stdin, writes one on stdout. While it measures it only stamps and stores the
bytes that arrive, and parses them afterwards, to take as little as possible from the servers.
`python runner/bench/load_generator.py --own-speed` says how fast that is, against a server that does nothing.
"""

import argparse
import asyncio
import itertools
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

Stamped = list[tuple[float, bytes]]
# How much of every client's answer has arrived before the late request is sent.
LATE_AFTER = 16


@dataclass
class Load:
    """`clients` clients at once; each sends its share of `bodies` one after another, and starts `stagger` seconds after
    the client before it. A request without a complete answer after `timeout` seconds counts as lost. `late` is one more
    request, sent when all of the clients are receiving their answers."""

    port: int
    path: str
    bodies: list[dict[str, Any]]
    clients: int
    stagger: float = 0.0
    timeout: float = 120.0
    late: dict[str, Any] | None = None


@dataclass
class Result:
    """What one request saw, in seconds since it was sent. `failure` says why there is nothing to measure. `stamps`: when
    each piece of text arrived. `drafted`, `accepted`: tokens of speculative decoding, None if the server reports none."""

    tokens: int = 0
    first: float = 0.0
    last: float = 0.0
    stamps: list[float] = field(default_factory=list)
    drafted: int | None = None
    accepted: int = 0
    failure: str | None = None

    @property
    def gaps(self) -> list[float]:
        return [after - before for before, after in itertools.pairwise(self.stamps)]


class Connection(asyncio.Protocol):
    """Stamps what arrives until the server closes the connection. `on_flow` is called once much has."""

    def __init__(self, on_flow: Callable[[], None]) -> None:
        self._on_flow = on_flow
        self.arrived: Stamped = []
        self.closed: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.arrived.append((time.perf_counter(), data))
        if len(self.arrived) == LATE_AFTER:
            self._on_flow()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.closed.done():
            self.closed.set_result(exc)


Response = tuple[float, Stamped, str | None]  # when it was sent, what arrived, what went wrong


async def send(load: Load, body: dict[str, Any], on_flow: Callable[[], None] = lambda: None) -> Response:
    """One request on a connection of its own: mlx_lm.server speaks HTTP/1.0 and keeps none open."""
    payload = json.dumps(body).encode()
    head = f"POST {load.path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(payload)}\r\nConnection: close\r\n\r\n"
    started = time.perf_counter()
    try:
        connect = asyncio.get_running_loop().create_connection(
            lambda: Connection(on_flow), "127.0.0.1", load.port
        )
        transport, connection = await asyncio.wait_for(connect, 10)
        transport.write(head.encode() + payload)
        error = await asyncio.wait_for(connection.closed, load.timeout)
    except (OSError, TimeoutError) as problem:
        return started, [], str(problem) or "no connection, or no answer in time"
    return started, connection.arrived, str(error) if error else None


async def run(load: Load) -> tuple[list[Response], Response | None]:
    """The answers to `bodies`, and to the late request."""
    waiting = iter(load.bodies)
    writing = asyncio.Semaphore(0)

    async def one_client(number: int) -> list[Response]:
        await asyncio.sleep(number * load.stagger)
        return [await send(load, body, writing.release) for body in waiting]

    clients = asyncio.gather(*(one_client(number) for number in range(load.clients)))
    late = None
    if load.late is not None:
        flowing = asyncio.gather(*(writing.acquire() for _ in range(load.clients)))
        waits: list[asyncio.Future[Any]] = [clients, flowing]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        flowing.cancel()
        late = await send(load, load.late)
    return [response for responses in await clients for response in responses], late


def lines(arrived: Stamped) -> Iterator[tuple[float, bytes]]:
    """The body's lines, each with the time at which it was complete; the body is chunked, or ends with the connection."""
    raw = bytearray()
    text = bytearray()
    chunked: bool | None = None
    for stamp, data in arrived:
        raw += data
        if chunked is None:
            end = raw.find(b"\r\n\r\n")
            if end < 0:
                continue
            if not raw.split(b" ", 2)[1] == b"200":
                raise ValueError(bytes(raw[:300]).decode(errors="replace"))
            chunked = b"transfer-encoding: chunked" in raw[:end].lower()
            del raw[: end + 4]
        if chunked:
            _take_chunks(raw, text)
        else:
            text, raw = text + raw, bytearray()
        *whole, text = text.split(b"\n")
        for line in whole:
            yield stamp, bytes(line)


def _take_chunks(raw: bytearray, text: bytearray) -> None:
    """Move every whole chunk from `raw` to `text`."""
    while (end := raw.find(b"\r\n")) >= 0:
        size = int(raw[:end], 16)
        if len(raw) < end + size + 4:
            return
        text += raw[end + 2 : end + 2 + size]
        del raw[: end + size + 4]


def read_response(started: float, arrived: Stamped, failure: str | None) -> Result:
    """Of either API: one event a line, or server-sent events with the usage at the end."""
    result = Result(failure=failure)
    stamps = result.stamps
    ended = False
    try:
        for stamp, line in lines(arrived):
            payload = line.removeprefix(b"data: ")
            if not payload.startswith(b"{"):
                continue
            event = json.loads(payload)
            if event.get("error"):
                raise ValueError(str(event["error"]))
            ended = ended or bool(event.get("done") or event.get("usage"))
            usage = event.get("usage") or {}
            result.tokens = event.get("eval_count") or usage.get("completion_tokens") or result.tokens
            result.drafted = event.get("drafted", result.drafted)
            result.accepted = event.get("accepted", result.accepted)
            choices = event.get("choices") or [{}]
            if event.get("content") or choices[0].get("text"):
                stamps.append(stamp)
    except ValueError as problem:
        result.failure = str(problem)
    if not result.failure and not ended:
        result.failure = "the stream ended without its last event"
    if not result.failure:
        # A model may end at once, without any text.
        result.first = (stamps[0] if stamps else arrived[-1][0]) - started
        result.last = arrived[-1][0] - started
    return result


def measure(load: Load) -> dict[str, Any]:
    cpu = time.process_time()
    began = time.perf_counter()
    responses, late = asyncio.run(run(load))
    duration = time.perf_counter() - began
    cpu = time.process_time() - cpu
    results = [read_response(*response) for response in responses]
    good = [result for result in results if not result.failure]
    # From the first request to the last token: a connection that never comes counts as lost, not as slow.
    ends = [start + result.last for (start, _, _), result in zip(responses, results, strict=True)]
    wall = max(ends, default=began) - began
    tokens = sum(result.tokens for result in good)
    drafted = [result.drafted for result in good if result.drafted is not None]
    return {
        "requests": len(results),
        "lost": len(results) - len(good),
        "failures": sorted({result.failure for result in results if result.failure})[:5],
        "tokens": tokens,
        "seconds": wall,
        "tokens_per_second": tokens / max(wall, 1e-9),
        "first_token": statistics.median([result.first for result in good] or [0.0]),
        "drafted": sum(drafted) if drafted else None,
        "accepted": sum(result.accepted for result in good),
        "own_cpu_share": cpu / duration,
        **_gaps([gap for result in good for gap in result.gaps]),
        **(_late(late, good) if late is not None else {}),
    }


def _gaps(gaps: list[float]) -> dict[str, float]:
    """Of the time between two pieces of an answer."""
    gaps = sorted(gaps) or [0.0]
    return {
        "gap_median": statistics.median(gaps),
        "gap_p95": gaps[int(len(gaps) * 0.95)],
        "gap_p99": gaps[int(len(gaps) * 0.99)],
        "gap_longest": gaps[-1],
    }


def _late(response: Response, others: list[Result]) -> dict[str, Any]:
    """What the late request saw, and the gaps of the other answers since it was sent."""
    result = read_response(*response)
    sent = response[0]
    gaps = [
        after - before
        for other in others
        for before, after in itertools.pairwise(other.stamps)
        if after > sent
    ]
    failure = result.failure or ("" if gaps else "the other answers were complete before it was sent")
    return {"late_first_token": result.first, "late_failure": failure, **_gaps(gaps)}


async def _serve_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    line = json.dumps({"content": " word", "token": 1}).encode() + b"\n"
    for _ in range(1000):
        writer.write(b"%x\r\n%s\r\n" % (len(line), line))
        await asyncio.sleep(0)
    last = json.dumps({"done": True, "eval_count": 1000}).encode() + b"\n"
    writer.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(last), last))
    await writer.drain()
    writer.close()


async def own_speed(clients: int = 8) -> float:
    """Events a second that one process can both write and read: a lower bound for this generator."""
    server = await asyncio.start_server(_serve_nothing, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    load = Load(port, "/", [{"prompt": ""}] * clients * 2, clients)
    began = time.perf_counter()
    responses, _ = await run(load)
    wall = time.perf_counter() - began
    server.close()
    return sum(read_response(*response).tokens for response in responses) / wall


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--own-speed", action="store_true", help="measure this generator alone and exit")
    if parser.parse_args().own_speed:
        print(json.dumps({"events_per_second": asyncio.run(own_speed())}))
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(max(soft, 4096), hard), hard))
    print(json.dumps(measure(Load(**json.load(sys.stdin)))))


if __name__ == "__main__":
    main()
