"""Heads and bodies that are too long or too slow, and those that are neither."""

import asyncio
import time
import tracemalloc

import pytest

from tests.runner.http.serving import HOST, Serving, serve

MIB = 1024**2
BLOCK = b"a" * 64 * 1024
START = b"GET / HTTP/1.1\r\n" + HOST
TOO_LONG = {
    "request line": (414, [b"GET /", *[BLOCK] * 1072]),
    "request line in one piece": (414, [b"GET /" + b"a" * MIB + b" HTTP/1.1\r\n" + HOST + b"\r\n"]),
    "header": (431, [START + b"X: ", *[BLOCK] * 1072]),
    "name of a header": (431, [START, *[BLOCK] * 1072]),
    "header folded": (431, [START, *[b"X: " + b"a" * 1000 + b"\r\n"] * 70_000]),
    "many headers": (431, [START, *[b"a: b\r\n" * 10_000] * 100]),
    "all headers in one piece": (431, [START + b"X: " + b"a" * MIB + b"\r\n\r\n"]),
}


@pytest.mark.parametrize(("status", "pieces"), TOO_LONG.values(), ids=TOO_LONG)
def test_a_head_of_any_length_is_refused_in_little_memory_and_time(status: int, pieces: list[bytes]) -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        tracemalloc.start()
        try:
            began = time.process_time()
            await client.send(*pieces)
            answer = await client.rest()
            took = time.process_time() - began
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert answer.startswith(b"HTTP/1.1 %d " % status), answer
        assert b'{"error":"' in answer
        assert peak < 4 * MIB
        assert took < 3
        assert serving.application.requests == 0

    serve(main)


def test_a_head_below_the_limits_is_read_and_a_large_body_behind_it_is_no_part_of_it() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        line = b"POST /" + b"a" * 16_000 + b" HTTP/1.1\r\n" + HOST
        head = line + b"X: " + b"a" * 45_000 + b"\r\nContent-Length: %d\r\n\r\n"
        for _ in range(3):  # on one connection: nothing is added up over requests
            await client.send(head % (5 * MIB) + b"b" * 5 * MIB)
            assert b"5242880 bytes; host,x,content-length" in await client.answer()

    serve(main)


def test_a_head_in_many_small_pieces_is_read() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        for byte in START + b"X: yes\r\n\r\n":
            await client.send(bytes([byte]))
        assert (await client.answer()).endswith(b"0 bytes; host,x")

    serve(main)


def test_requests_sent_ahead_of_their_answers_are_answered_in_turn() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send((START + b"\r\n") * 50)
        for _ in range(50):
            assert (await client.answer()).endswith(b"0 bytes; host")

    serve(main)


@pytest.mark.parametrize("garbage", [b"\x00\x00\r\n\r\n", b"GET /" + b"a" * 100_000])
def test_a_refusal_never_ends_up_in_the_answer_to_an_earlier_request(garbage: bytes) -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(b"GET /stream HTTP/1.1\r\n" + HOST + b"\r\n")
        await client.send(garbage)
        answer = await client.rest()
        assert answer.endswith(b"3\r\nend\r\n0\r\n\r\n")
        assert answer.count(b"HTTP/1.1") == 1

    serve(main)


def test_what_is_no_http_is_refused_as_json() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n")
        answer = await client.rest()
        assert answer.startswith(b"HTTP/1.1 400 ")
        assert b'{"error":"' in answer

    serve(main)


def test_what_follows_a_body_never_becomes_a_header() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        head = b"POST /later HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked\r\n\r\n"
        serving.application.open.clear()
        await client.send(head + b"2\r\n{}\r\n0\r\nAuthorization: Bearer x\r\n\r\n")
        serving.application.open.set()
        assert (await client.answer()).endswith(b"2 bytes; host,transfer-encoding")
        await client.send(head + b"0\r\n", *[b"X: " + b"a" * 1000 + b"\r\n"] * 100)
        assert b"HTTP/1.1 431 " in await client.rest()

    serve(main)


# -- slowly


def test_a_head_that_does_not_end_is_refused_in_time_however_it_trickles() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(START)
        rest = asyncio.create_task(client.rest())
        while not rest.done():
            await client.send(b"X: y\r\n")
            await asyncio.sleep(0.05)
        assert rest.result().startswith(b"HTTP/1.1 408 ")

    serve(main, head_seconds=0.5)


def test_a_connection_on_which_nothing_comes_or_nothing_but_empty_lines_is_closed() -> None:
    async def main(serving: Serving) -> None:
        assert await (await serving.connect()).rest() == b""
        client = await serving.connect()
        rest = asyncio.create_task(client.rest())
        while not rest.done():
            await client.send(b"\r\n")
            await asyncio.sleep(0.05)
        assert rest.result().startswith(b"HTTP/1.1 408 ")

    serve(main, head_seconds=0.5)


def test_a_connection_that_lies_idle_after_a_request_is_closed() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(START + b"\r\n")
        assert (await client.answer()).endswith(b"0 bytes; host")
        assert await client.rest() == b""

    serve(main, idle=0.2, head_seconds=60)


BODY = b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n"


def test_a_body_that_trickles_is_refused_by_its_request() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(BODY)
        rest = asyncio.create_task(client.rest())
        while not rest.done():
            await client.send(b"x")
            await asyncio.sleep(0.05)
        answer = rest.result()
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"x-request-id" in answer
        assert b"too slowly" in answer

    serve(main, body_seconds=0.5, linger=30)


def test_a_body_that_comes_slowly_but_steadily_is_read_whole() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(BODY)
        for _ in range(40):
            await client.send(b"x" * 2500)
            await asyncio.sleep(0.1)
        assert (await client.answer()).endswith(b"100000 bytes; host,content-length")

    serve(main, body_seconds=1)


def test_a_client_is_not_blamed_while_its_request_does_not_read() -> None:
    async def main(serving: Serving) -> None:
        serving.application.open.clear()
        client = await serving.connect()
        head = b"POST /later HTTP/1.1\r\n" + HOST + b"Content-Length: %d\r\n\r\n" % (20 * MIB)
        sending = asyncio.create_task(client.send(head, b"x" * 20 * MIB))
        await asyncio.sleep(2.5)  # several times what the client has
        assert not sending.done()
        serving.application.open.set()
        assert b"20971520 bytes" in await client.answer()

    serve(main, body_seconds=0.3)


def test_a_body_that_stops_after_the_answer_is_cut_off() -> None:
    async def main(serving: Serving) -> None:
        client = await serving.connect()
        await client.send(b"POST /early HTTP/1.1\r\n" + HOST + b"Content-Length: 100000\r\n\r\n")
        assert (await client.answer()).endswith(b"early")
        assert await client.rest() == b""

    serve(main, body_seconds=0.3)


def test_a_client_is_not_blamed_for_a_pause_of_ours() -> None:
    async def main(serving: Serving) -> None:
        head, body = await serving.connect(), await serving.connect()
        await head.send(START)
        await body.send(BODY)
        await asyncio.sleep(0.5)
        time.sleep(4)  # noqa: ASYNC251 - as if a request had blocked the loop
        await head.send(b"\r\n")
        await body.send(b"x" * 100_000)
        assert (await head.answer()).endswith(b"0 bytes; host")
        assert (await body.answer()).endswith(b"100000 bytes; host,content-length")

    serve(main, head_seconds=2, body_seconds=2)
