"""What the load generator sends, and reads out of the bytes that arrived."""

import asyncio
import json
from typing import Any

from runner.bench.load_generator import LATE_AFTER, Load, Response, _late, read_response, run

HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(event: dict[str, Any], prefix: bytes = b"") -> bytes:
    line = prefix + json.dumps(event).encode() + b"\n"
    return b"%x\r\n%s\r\n" % (len(line), line)


def test_events_are_counted_and_timed() -> None:
    last = chunk({"done": True, "eval_count": 2})
    arrived = [(1.0, HEAD), (1.5, chunk({"content": "a"})), (1.7, chunk({"content": "b"})), (1.8, last)]
    answer = read_response(1.0, arrived, None)
    assert (answer.failure, answer.tokens, answer.first) == (None, 2, 0.5)
    assert [round(gap, 3) for gap in answer.gaps] == [0.2]


def test_server_sent_events_tell_their_usage() -> None:
    said = chunk({"choices": [{"text": "a"}]}, b"data: ")
    last = chunk({"choices": [], "usage": {"completion_tokens": 5}}, b"data: ")
    answer = read_response(1.0, [(1.2, HEAD + said), (1.4, last)], None)
    assert (answer.failure, answer.tokens) == (None, 5)


def test_a_model_that_says_nothing_has_answered() -> None:
    answer = read_response(1.0, [(1.5, HEAD + chunk({"done": True, "eval_count": 0}))], None)
    assert (answer.failure, answer.tokens, answer.first) == (None, 0, 0.5)


def test_a_stream_that_is_cut_or_tells_an_error_is_a_failure() -> None:
    cut = read_response(1.0, [(1.5, HEAD + chunk({"content": "a"}))], None)
    assert cut.failure == "the stream ended without its last event"
    told = read_response(1.0, [(1.5, HEAD + chunk({"error": "no memory", "done": True}))], None)
    assert told.failure == "no memory"


def test_another_status_is_a_failure_that_shows_the_answer() -> None:
    answer = read_response(1.0, [(1.5, b"HTTP/1.1 503 Busy\r\n\r\n")], None)
    assert answer.failure is not None
    assert "503" in answer.failure


def test_speculative_decoding_is_counted_where_it_is_told() -> None:
    last = chunk({"done": True, "eval_count": 2, "drafted": 8, "accepted": 6})
    answer = read_response(1.0, [(1.2, HEAD + chunk({"content": "a"}) + last)], None)
    assert (answer.drafted, answer.accepted) == (8, 6)
    plain = read_response(1.0, [(1.2, HEAD + chunk({"done": True, "eval_count": 0}))], None)
    assert plain.drafted is None


def writing(log: list[str], pieces: int) -> Any:
    """A server whose answers have this many pieces, and go on until the late request has been sent."""
    late = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        prompt = json.loads(await reader.readexactly(length))["prompt"]
        if prompt == "long":
            log.append("long")
            late.set()
        writer.write(HEAD)
        for at in range(pieces):
            if at == LATE_AFTER and prompt != "long":
                log.append("written")
                await late.wait()
            writer.write(chunk({"content": "a"}))
            await writer.drain()
            await asyncio.sleep(0.001)  # a packet of its own
        writer.write(chunk({"done": True, "eval_count": pieces}) + b"0\r\n\r\n")
        await writer.drain()
        writer.close()

    return serve


async def answers(log: list[str], pieces: int, clients: int) -> tuple[list[Response], Response]:
    server = await asyncio.start_server(writing(log, pieces), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        responses, late = await run(
            Load(port, "/", [{"prompt": "a"}] * clients, clients, late={"prompt": "long"})
        )
    assert late is not None
    return responses, late


def test_the_late_request_is_sent_when_all_the_others_are_being_answered() -> None:
    log: list[str] = []
    responses, late = asyncio.run(answers(log, LATE_AFTER + 4, 3))
    others = [read_response(*response) for response in responses]
    figures = _late(late, others)
    assert figures["late_failure"] == ""
    assert figures["late_first_token"] > 0
    assert 0 < figures["gap_median"] <= figures["gap_p99"] <= figures["gap_longest"]
    assert len(others) == 3
    assert log.count("long") == 1


def test_a_late_request_that_came_too_late_is_a_failure() -> None:
    responses, late = asyncio.run(answers([], LATE_AFTER - 4, 1))
    figures = _late(late, [read_response(*response) for response in responses])
    assert figures["late_failure"] == "the other answers were complete before it was sent"
