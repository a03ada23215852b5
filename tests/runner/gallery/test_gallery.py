"""The gallery on its own: what it finds, what it drops, and which files are left."""

import asyncio
import io
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from runner.gallery import pictures
from runner.gallery.files import THUMBNAIL_SIDE, input_name
from runner.gallery.gallery import Gallery
from runner.gallery.picture import Limits, Picture, Query

LARGE = Limits(10**9, 1000)


def png(size: tuple[int, int] = (8, 6)) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", size, "red").save(file, "PNG")
    return file.getvalue()


def picture(id: str, prompt: str = "a cat", **fields: Any) -> Picture:
    values = {"made": 1.0, "width": 8, "height": 6, "steps": 4, "seconds": 2.5, "index": 0, "batch": "b"}
    return Picture(id=id, recipe={"prompt": prompt, "seed": "7"}, format="png", bytes=9, **(values | fields))


@asynccontextmanager
async def opened(folder: Path, limits: Limits = LARGE) -> AsyncIterator[Gallery]:
    gallery = Gallery(limits, folder / "gallery")
    try:
        yield gallery
    finally:
        await gallery.close()


async def add(
    gallery: Gallery, *ids: str, owner: str = "me", prompt: str = "a cat", inputs: Any = ()
) -> None:
    await gallery.add(owner, [(picture(id, prompt), png()) for id in ids], inputs)


async def ids(gallery: Gallery, owner: str = "me", **query: Any) -> list[str]:
    return [one.id for one in (await gallery.find(owner, Query(**query), 100)).pictures]


def files(folder: Path) -> set[str]:
    return {path.name for path in (folder / "gallery" / "files").iterdir()}


def test_pictures_are_found_by_words_favourites_and_pages(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as gallery:
            await add(gallery, "one", prompt="Ein KATER in Grün")
            await add(gallery, "two", "three", prompt="100% blue_sky")
            await add(gallery, "other", owner="you")
            assert await ids(gallery) == ["two", "three", "one"]
            assert await ids(gallery, search="grün kater") == ["one"]
            assert await ids(gallery, search="%") == ["two", "three"]
            assert await ids(gallery, before="two") == ["three", "one"]
            assert await ids(gallery, before="other") == await ids(gallery, before="nothing") == []
            changed = await gallery.change("me", "three", favourite=True)
            assert changed is not None
            assert changed.favourite
            assert await ids(gallery, favourites=True) == ["three"]
            assert await gallery.change("you", "three", favourite=False) is None
            found = await gallery.find("me", Query(), 2)
            assert ([one.id for one in found.pictures], found.more, found.total) == (
                ["two", "three"],
                True,
                3,
            )

    asyncio.run(main())


def test_a_deleted_picture_can_be_restored_for_a_while(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        async with opened(tmp_path) as gallery:
            await add(gallery, "one", "two")
            await gallery.change("me", "one", deleted=True)
            assert await ids(gallery) == ["two"]
            assert await gallery.get("me", "one") is None
            await gallery.change("me", "one", deleted=False)
            assert await ids(gallery) == ["one", "two"]
            await gallery.change("me", "one", deleted=True)
            assert "one.png" in files(tmp_path)
            monkeypatch.setattr(pictures, "UNDO_SECONDS", -1.0)
            await gallery.change("me", "two", favourite=True)
            assert files(tmp_path) == {"two.png"}

    asyncio.run(main())


def test_the_oldest_are_dropped_and_favourites_last(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path, Limits(10**9, 2)) as gallery:
            await add(gallery, "liked")
            await gallery.change("me", "liked", favourite=True)
            for id in ("a", "b", "c"):
                await add(gallery, id)
            assert await ids(gallery) == ["c", "liked"]
            await add(gallery, "x", "y", "z")  # drawn together: they stay, though they are too many
            assert await ids(gallery) == ["x", "y", "z"]
            assert files(tmp_path) == {"x.png", "y.png", "z.png"}
        async with opened(tmp_path, Limits(1, 10)) as gallery:
            await add(gallery, "last")
            assert files(tmp_path) == {"last.png"}

    asyncio.run(main())


def test_an_input_picture_stays_as_long_as_a_picture_needs_it(tmp_path: Path) -> None:
    shared, own = png((4, 4)), png((5, 5))

    async def main() -> None:
        async with opened(tmp_path) as gallery:
            await add(gallery, "one", inputs=[shared, own])
            await add(gallery, "two", inputs=[shared, shared])
            assert await gallery.has_input("me", input_name(own))
            assert not await gallery.has_input("you", input_name(own))
            assert await gallery.remove("me", "one")
            assert not await gallery.remove("me", "one")
            assert files(tmp_path) == {"two.png", input_name(shared)}
            await gallery.clear("me")
            assert files(tmp_path) == set()

    asyncio.run(main())


def test_files_are_private_and_those_without_a_row_are_swept_up(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as gallery:
            await add(gallery, "one")
            small = await gallery.thumbnail("me", "one")
            assert small is not None
            assert Image.open(io.BytesIO(small)).size == (8, 6)
            folder = tmp_path / "gallery" / "files"
            assert (folder.stat().st_mode & 0o777, (folder / "one.png").stat().st_mode & 0o777) == (
                0o700,
                0o600,
            )
            for name, age in (("old.png", 10_000), ("new.png", 0)):
                (folder / name).write_bytes(b"")
                os.utime(folder / name, (time.time() - age,) * 2)
            assert await gallery.check()
            assert files(tmp_path) == {"one.png", "new.png"}

    asyncio.run(main())


def test_a_large_picture_has_a_small_copy(tmp_path: Path) -> None:
    async def main() -> None:
        async with opened(tmp_path) as gallery:
            await gallery.add("me", [(picture("one"), png((1000, 500)))])
            small = await gallery.thumbnail("me", "one")
            assert small is not None
            assert Image.open(io.BytesIO(small)).size == (THUMBNAIL_SIDE, THUMBNAIL_SIDE // 2)

    asyncio.run(main())


def test_a_place_that_cannot_be_written_is_no_gallery(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "gallery").write_text("a file")

    async def main() -> None:
        async with opened(tmp_path) as gallery:
            assert not await gallery.check()

    asyncio.run(main())
    assert "pictures stay in the browser" in caplog.text
