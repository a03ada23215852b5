"""The store on its own: what it drops, and that it is never in the way."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.errors import StoreFailed
from runner.store import conversations, responses, threads
from runner.store.database import used_bytes
from runner.store.responses import NewResponse
from runner.store.store import Store
from runner.store.threads import Item, Limits

YEAR = 365 * 86400.0


@asynccontextmanager
async def stored(folder: Path, size: int = 10**9, age: float = YEAR) -> AsyncIterator[Store]:
    store = Store(Limits(size, age), folder / "responses")
    try:
        yield store
    finally:
        await store.close()


async def keep(store: Store, id: str, previous: str | None = None, size: int = 10, thread: str = "") -> None:
    new = NewResponse(id, "me", thread or id, previous, b"{}", [Item(f"in_{id}", b'"i"')])
    output = [Item(f"out_{id}", msgspec.json.encode("x" * size))]

    def work(db: sqlite3.Connection) -> None:
        responses.begin(db, store.limits, new, store.writer.begin())
        responses.finish(db, store.limits, id, b'{"status":"completed"}', output, None)

    await store.run(work)


async def is_kept(store: Store, id: str) -> bool:
    stored = await store.run(lambda db: responses.get(db, "me", id, store.writer.is_gone))
    return stored is not None


async def rows(store: Store) -> list[int]:
    tables = ("threads", "responses", "conversations", "items")
    return [await store.run(lambda db, name=name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0]) for name in tables]  # type: ignore[misc]  # fmt: skip


def run(work: Any) -> None:
    asyncio.run(work)


def test_the_oldest_threads_are_dropped_when_there_is_too_much(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path, size=2_000_000) as store:
            for number in range(24):
                await keep(store, f"r{number}", size=200_000)
            assert not await is_kept(store, "r0")
            assert await is_kept(store, "r23")
            assert await is_kept(store, "r17")
            assert 1_500_000 < await store.run(used_bytes) <= 2_000_000

    run(main())


def test_a_thread_that_is_continued_outlives_older_ones(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path, size=4_500_000) as store:
            await keep(store, "first", size=200_000)
            for number in range(30):
                await keep(store, f"r{number}", size=200_000)
                await keep(store, f"next{number}", "first", thread="first")
            assert await is_kept(store, "first")
            assert not await is_kept(store, "r0")
            chain = await store.run(lambda db: responses.read_items(db, "next0", output=True))
            assert [id for _, id in chain] == ["in_first", "out_first", "in_next0", "out_next0"]

    run(main())


def test_what_is_alone_too_large_is_not_stored(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path, size=1_000_000) as store:
            await keep(store, "small")
            with pytest.raises(StoreFailed, match=r"--store-size"):
                await keep(store, "large", size=2_000_000)
            assert not await is_kept(store, "large")
            assert await is_kept(store, "small")

    run(main())


def test_what_is_too_old_is_dropped_with_the_next_one(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            await keep(store, "old")
            await store.run(
                lambda db: db.execute("UPDATE threads SET used = ?", (time.time() - 2 * YEAR,)).rowcount
            )
            await keep(store, "new")
            assert not await is_kept(store, "old")
            assert await rows(store) == [1, 1, 0, 2]

    run(main())


def test_nothing_is_left_of_what_was_deleted(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            await keep(store, "one")
            await keep(store, "two", "one", thread="one")
            body, items = b'{"id":"conv"}', [Item("a", b'"a"'), Item("b", b'"b"')]
            await store.run(lambda db: conversations.create(db, store.limits, "me", "conv", body, items))
            for id in ("one", "two"):
                assert await store.run(lambda db, id=id: responses.delete(db, "me", id))  # type: ignore[misc]
                assert not await is_kept(store, id)
            assert await store.run(lambda db: conversations.delete(db, "me", "conv"))
            assert await rows(store) == [0, 0, 0, 0]

    run(main())


def test_the_event_loop_goes_on_while_another_process_writes(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            await keep(store, "first")
            other = sqlite3.connect(store.database.path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            waiting = asyncio.ensure_future(keep(store, "second"))
            for _ in range(50):
                await asyncio.sleep(0.001)
            assert not waiting.done()
            other.execute("COMMIT")
            other.close()
            await waiting
            assert await is_kept(store, "second")

    run(main())


def test_a_file_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            await keep(store, "first")
        newer = sqlite3.connect(tmp_path / "responses" / "responses.db")
        newer.execute("PRAGMA user_version = 99")
        newer.close()
        async with stored(tmp_path) as store:
            with pytest.raises(StoreFailed, match="newer version"):
                await keep(store, "second")
        assert not list((tmp_path / "responses").glob("*corrupt*"))

    run(main())


def test_a_file_that_was_removed_is_begun_anew(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            await keep(store, "first")
            for path in (tmp_path / "responses").glob("responses.db*"):
                path.unlink()
            await keep(store, "second")
            assert await is_kept(store, "second")
            assert not await is_kept(store, "first")

    run(main())


def test_pages_of_a_list_meet(tmp_path: Path) -> None:
    async def main() -> None:
        async with stored(tmp_path) as store:
            items = [Item(f"i{number}", msgspec.json.encode(number)) for number in range(7)]
            await store.run(lambda db: conversations.create(db, store.limits, "me", "conv", b"{}", items))

            def page(db: sqlite3.Connection, after: str | None) -> threads.Page:
                return threads.page(db, conversations.read_items(db, "conv"), after, 3, newest_first=True)

            seen: list[int] = []
            after = None
            while True:
                read = await store.run(lambda db, after=after: page(db, after))  # type: ignore[misc]
                seen += [msgspec.json.decode(body) for body in read.items]
                after = f"i{seen[-1]}"
                if not read.has_more:
                    break
            assert seen == [6, 5, 4, 3, 2, 1, 0]

    run(main())
