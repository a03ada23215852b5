"""The client of runners, against a peer that sends what it is told."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from runner.process.client import READ_AHEAD, Client, ConnectionLost

Peer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def against(peer: Peer, main: Callable[[Client], Awaitable[None]]) -> None:
    async def run() -> None:
        server = await asyncio.start_server(peer, "127.0.0.1", 0)
        client = Client(server.sockets[0].getsockname()[1])
        try:
            await asyncio.wait_for(main(client), 20)
        finally:
            client.close()
            server.close()

    asyncio.run(run())


async def head(reader: asyncio.StreamReader) -> bytes:
    head_bytes = await reader.readuntil(b"\r\n\r\n")
    length = int(head_bytes.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
    return head_bytes + await reader.readexactly(length)


def chunk(data: bytes) -> bytes:
    return b"%x\r\n" % len(data) + data + b"\r\n"


def test_lines_are_whole_however_they_are_cut() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        whole = CHUNKED + chunk(b'{"a":1}\n{"b"') + chunk(b":2}\n") + chunk(b"last") + b"0\r\n\r\n"
        for byte in whole:
            writer.write(bytes([byte]))
            await writer.drain()

    async def main(client: Client) -> None:
        answer = await client.request("GET", "/")
        assert [line async for line in answer.lines()] == [b'{"a":1}', b'{"b":2}', b"last"]

    against(peer, main)


def test_a_body_of_many_pieces_is_read_whole_and_a_long_line_is_one() -> None:
    long = b"x" * 300_000

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(2):
            await head(reader)
            writer.write(CHUNKED + chunk(long[:7]) + chunk(long[7:] + b"\nend\n") + b"0\r\n\r\n")

    async def main(client: Client) -> None:
        assert await (await client.request("GET", "/")).read() == long + b"\nend\n"
        assert [line async for line in (await client.request("GET", "/")).lines()] == [long, b"end"]

    against(peer, main)


def test_a_connection_is_kept_for_the_next_request_and_a_dead_one_replaced() -> None:
    peers: list[int] = []

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peers.append(0)
        for _ in range(2):
            await head(reader)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        # Closed without a word when the third request comes.
        await reader.read(1)
        writer.close()

    async def main(client: Client) -> None:
        for _ in range(3):
            assert await (await client.request("POST", "/", b"x")).read() == b"ok"

    against(peer, main)
    assert len(peers) == 2


def test_an_answer_that_breaks_off_is_broken_and_not_short() -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(CHUNKED + chunk(b"half"))
        await writer.drain()
        writer.close()

    async def main(client: Client) -> None:
        answer = await client.request("GET", "/")
        ended: list[bool] = []
        answer.on_end(lambda: ended.append(True))
        actual = []

        async def read() -> None:
            async for piece in answer.chunks():
                actual.append(piece)

        with pytest.raises(ConnectionLost, match="closed"):
            await read()
        assert (actual, ended) == ([b"half"], [True])

    against(peer, main)


@pytest.mark.parametrize("said", [b"", b"220 smtp ready\r\n", b"HTTP/1.1 200 OK\r\nContent-"])
def test_what_is_no_answer_is_broken(said: bytes) -> None:
    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await head(reader)
        writer.write(said)
        await writer.drain()
        writer.close()

    async def main(client: Client) -> None:
        with pytest.raises(ConnectionLost):
            await client.request("GET", "/")

    against(peer, main)


def test_nobody_listening_is_broken() -> None:
    async def main() -> None:
        with pytest.raises(ConnectionLost, match="no connection"):
            await Client(1).request("GET", "/")

    asyncio.run(main())


def test_leaving_is_seen_by_the_peer() -> None:
    left: asyncio.Queue[bool] = asyncio.Queue()
    silent = asyncio.Event()

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if b"/stream" in await head(reader):
            writer.write(CHUNKED + chunk(b"first"))
        else:
            silent.set()
        try:
            await left.put(await reader.read() == b"")
        except ConnectionError:
            await left.put(True)

    async def main(client: Client) -> None:
        answer = await client.request("GET", "/stream")
        async for _ in answer.chunks():
            answer.close()
            break
        assert await left.get()
        waiting = asyncio.create_task(client.request("GET", "/silent"))
        await silent.wait()
        waiting.cancel()
        assert await left.get()

    against(peer, main)


def test_an_answer_that_nobody_reads_stops_arriving_and_goes_on_when_it_is_read() -> None:
    total = 8 * READ_AHEAD
    sent = 0

    async def peer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % total)
        for _ in range(total // 65536):
            writer.write(b"x" * 65536)
            await writer.drain()
            sent += 65536

    async def main(client: Client) -> None:
        answer = await client.request("GET", "/")
        seen = -1
        while seen != sent:
            seen = sent
            await asyncio.sleep(0.3)
        assert sent < total, "all of it was taken in"
        assert len(await answer.read()) == total

    against(peer, main)
