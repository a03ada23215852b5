"""Blocks come back from disk as they were put there, or not at all; what is wrong with the disk never reaches a request."""

import errno
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import mlx.core as mx
import pytest

from models.language.paged import block_files, disk
from models.language.paged.block_files import STALE_S, BlockFiles, Payload
from models.language.paged.disk import DiskTier
from tests.waiting import wait_until

LAYOUT = [((2, 32, 8), mx.float32), ((2, 32, 8), mx.bfloat16), ((2, 32, 4), mx.uint32)]
MIB = 1024**2

Made = Callable[..., DiskTier]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Made]:
    """Tiers over one folder; they are closed in the end."""
    made: list[DiskTier] = []

    def tier(limit: int = 64 * MIB, identity: str = "a model", **more: object) -> DiskTier:
        made.append(DiskTier(tmp_path, limit, identity, **({"layout": LAYOUT} | more)))  # type: ignore[arg-type]
        return made[-1]

    yield tier
    for each in made:
        each.close(5)


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


def block(number: int) -> list[mx.array]:
    key = mx.random.key(number)
    return [
        mx.random.normal(LAYOUT[0][0], key=key),
        mx.random.normal(LAYOUT[1][0], key=key).astype(mx.bfloat16),
        mx.random.randint(0, 2**31 - 1, LAYOUT[2][0], mx.uint32, key=key),
    ]


def same(arrays: list[mx.array] | None, number: int) -> bool:
    assert arrays is not None
    expected = block(number)
    assert [(a.shape, a.dtype) for a in arrays] == [(b.shape, b.dtype) for b in expected]
    return all(mx.array_equal(a, b).item() for a, b in zip(arrays, expected, strict=True))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.kv"))


def filled(make: Made, count: int = 1) -> None:
    """The folder with so many blocks, left by a process that has ended."""
    tier = make()
    for number in range(count):
        tier.put(digest(number), block(number))
    tier.close(30)
    assert tier.written == count


def test_a_block_comes_back_bit_for_bit(make: Made) -> None:
    filled(make, 20)
    tier = make()
    assert all(same(tier.get(digest(number)), number) for number in range(20))
    assert tier.hits == 20
    assert tier.get(digest(20)) is None


def test_what_is_not_yet_written_is_found_too(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    original = BlockFiles.write

    def slow(self: BlockFiles, digest: bytes, payload: Payload) -> None:
        go_on.wait(60)
        original(self, digest, payload)

    monkeypatch.setattr(BlockFiles, "write", slow)
    tier = make()
    for number in range(20):
        tier.put(digest(number), block(number))
    assert tier.written == 0
    assert all(digest(number) in tier and same(tier.get(digest(number)), number) for number in range(20))
    go_on.set()
    tier.close(60)
    assert tier.written == 20


def test_a_full_queue_drops_the_oldest_and_never_waits(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(BlockFiles, "write", lambda *_: go_on.wait(60))
    monkeypatch.setattr(disk, "MOST_UNWRITTEN_BYTES", 1)
    tier = make()
    for number in range(30):
        tier.put(digest(number), block(number))
    assert tier.dropped >= 27
    assert digest(29) in tier
    assert digest(5) not in tier
    go_on.set()


def test_storing_at_a_stop_waits_for_the_disk(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MOST_UNWRITTEN_BYTES", 1)
    tier = make()
    tier.store([(digest(number), lambda number=number: block(number)) for number in range(100)], 60)
    tier.close(60)
    assert (tier.written, tier.dropped) == (100, 0)


def test_a_stop_ends_in_time_though_the_disk_hangs(
    make: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()
    monkeypatch.setattr(BlockFiles, "write", lambda *_: go_on.wait(60))
    monkeypatch.setattr(disk, "MOST_UNWRITTEN_BYTES", 1)
    tier = make()
    began = time.monotonic()
    tier.store([(digest(number), lambda number=number: block(number)) for number in range(1000)], 0.2)
    tier.close(0.2)
    assert time.monotonic() - began < 30
    assert "were not written to disk" in caplog.text
    tier.put(digest(5000), block(0))
    assert digest(5000) not in tier
    go_on.set()


def test_a_block_is_written_as_it_was_when_it_was_put(make: Made) -> None:
    """Its place in memory is used for something else at once."""
    tier = make()
    pool = mx.zeros((4, *LAYOUT[0][0]))
    pool[1] = block(7)[0]
    tier.put(digest(7), [pool[1], *block(7)[1:]])
    pool[1] = mx.ones(LAYOUT[0][0])
    mx.eval(pool)
    tier.close(30)
    assert same(make().get(digest(7)), 7)


def test_a_block_that_is_put_costs_no_copy_of_all(make: Made) -> None:
    """The arrays are written to next, in place, as long as nothing is still being read from them."""
    tier = make(layout=[((8, 32, 64), mx.float32)])
    pool = mx.zeros((500, 8, 32, 64))
    busy = mx.random.normal((800, 800))
    mx.eval(pool, busy)
    mx.async_eval(busy @ busy @ busy)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    tier.put(digest(1), [pool[3]])
    pool[3] = mx.ones((8, 32, 64))
    mx.eval(pool)
    assert mx.get_peak_memory() - before < pool.nbytes / 2


# -- limits


def test_the_least_recently_used_are_removed_beyond_the_limit(make: Made, tmp_path: Path) -> None:
    filled(make, 10)
    size = files(tmp_path)[0].stat().st_size
    for age, path in enumerate(files(tmp_path)):  # in the order of their numbers, the first is the oldest
        os.utime(path, (1e9 + age, 1e9 + age))
    tier = make(limit=10 * size)
    wait_until(lambda: tier.files == 10)
    assert same(tier.get(digest(0)), 0)
    for number in (10, 11, 12):
        tier.put(digest(number), block(number))
    tier.close(30)
    kept = [number for number in range(13) if digest(number) in tier]
    assert kept == [0, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert tier.bytes == 10 * size == sum(path.stat().st_size for path in files(tmp_path))


def test_a_smaller_limit_holds_from_the_next_start(make: Made, tmp_path: Path) -> None:
    filled(make, 10)
    size = files(tmp_path)[0].stat().st_size
    tier = make(limit=3 * size)
    wait_until(lambda: tier.files == 3)
    assert tier.bytes == 3 * size
    assert len(files(tmp_path)) == 3


def test_files_of_the_models_other_settings_count_too(make: Made, tmp_path: Path) -> None:
    filled(make, 10)
    size = files(tmp_path)[0].stat().st_size
    other = make(limit=10 * size, identity="the model with 4 bits")
    for number in range(4):
        other.put(digest(number), block(number))
    other.close(30)
    assert len(files(tmp_path)) == 10
    assert all(same(other.get(digest(number)), number) for number in range(4))


def test_a_limit_below_one_block_is_refused(make: Made) -> None:
    with pytest.raises(ValueError, match="1000 bytes do not hold one block of this model; at least"):
        make(limit=1000)


def test_two_processes_use_one_folder(make: Made, tmp_path: Path) -> None:
    filled(make)
    size = files(tmp_path)[0].stat().st_size
    first, second = make(limit=8 * size), make(limit=8 * size)
    for number in range(200):
        (first, second)[number % 2].put(digest(number), block(number))
        for each in (first, second):
            at = random.Random(number).randrange(number + 1)
            arrays = each.get(digest(at))
            assert arrays is None or same(arrays, at)
    first.close(60)
    second.close(60)
    assert first.damaged == second.damaged == 0
    assert first.written + second.written > 100
    # Each looks at the folder again after an eighth of the limit.
    assert len(files(tmp_path)) <= 8 + 2 * 2


# -- damage


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def lengthen(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\0")


def swap(path: Path) -> None:
    """Another block's file in its place."""
    path.write_bytes(files(path.parent)[1].read_bytes())


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a flipped bit": lambda path: flip(path, -100),
    "a flipped bit in the checksum": lambda path: flip(path, 70),
    "a flipped bit in the header": lambda path: flip(path, 20),
    "another version": lambda path: flip(path, len(block_files.MAGIC) - 1),
    "a truncated file": truncate,
    "an empty file": lambda path: path.write_bytes(b""),
    "a longer file": lengthen,
    "another block": swap,
    "something else": lambda path: path.write_text("hello"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_removed_and_counts_as_absent(make: Made, tmp_path: Path, damage: str) -> None:
    filled(make, 2)
    path = files(tmp_path)[0]
    DAMAGES[damage](path)
    tier = make()
    assert tier.get(digest(0)) is None
    assert tier.damaged == 1
    assert not path.exists()
    assert same(tier.get(digest(1)), 1)
    tier.put(digest(0), block(0))
    tier.close(30)
    assert same(make().get(digest(0)), 0)


@pytest.mark.parametrize(
    "change", [{"identity": "another model"}, {"layout": LAYOUT[:2]}, {"layout": LAYOUT[::-1]}]
)
def test_another_models_files_are_never_used(make: Made, tmp_path: Path, change: dict[str, object]) -> None:
    filled(make)
    tier = make(**change)
    assert tier.get(digest(0)) is None
    assert tier.damaged == 0
    # Not even under the name of one of its own.
    own = tmp_path / f"{tier._files._identity[:8].hex()}-{digest(0).hex()}.kv"
    files(tmp_path)[0].rename(own)
    assert tier.get(digest(0)) is None
    assert (tier.damaged, own.exists()) == (1, False)


def test_links_pipes_and_folders_are_not_used(make: Made, tmp_path: Path) -> None:
    filled(make, 3)
    link, pipe, folder = files(tmp_path)
    outside = tmp_path / "outside"
    link.rename(outside)
    link.symlink_to(outside)
    pipe.unlink()
    os.mkfifo(pipe)
    folder.unlink()
    folder.mkdir()
    tier = make()
    assert [tier.get(digest(number)) for number in range(3)] == [None] * 3
    for number in range(3):
        tier.put(digest(number), block(number))
    tier.close(30)
    assert outside.exists()
    assert folder.is_dir()
    again = make()
    assert [again.get(digest(number)) is None for number in range(3)] == [False, False, True]
    assert not link.is_symlink()


def test_a_file_of_another_user_is_not_used(make: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(make)
    tier = make()
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    assert digest(0) not in tier
    assert tier.get(digest(0)) is None


def test_what_was_left_half_written_is_removed_in_time(make: Made, tmp_path: Path) -> None:
    filled(make)
    old, new = (tmp_path / f".{files(tmp_path)[0].name}.{mark * 16}.tmp" for mark in "ab")
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (1e9, time.time() - STALE_S - 60))
    tier = make()
    wait_until(lambda: tier.files == 1)
    tier.close(30)
    assert (old.exists(), new.exists()) == (False, True)


def test_a_file_that_disappears_is_absent(make: Made, tmp_path: Path) -> None:
    filled(make)
    tier = make()
    wait_until(lambda: tier.files == 1)
    files(tmp_path)[0].unlink()
    assert tier.get(digest(0)) is None
    assert (tier.files, tier.bytes, tier.damaged) == (0, 0, 0)


def test_a_folder_that_disappears_is_made_again(make: Made, tmp_path: Path) -> None:
    folder = tmp_path / "blocks"
    folder.mkdir(mode=0o700)
    tier = DiskTier(folder, 64 * MIB, "a model", LAYOUT)
    tier.put(digest(0), block(0))
    wait_until(lambda: tier.written == 1)
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    tier.put(digest(1), block(1))
    tier.close(30)
    assert tier.written == 2
    assert len(files(folder)) >= 1


def test_a_full_disk_is_told_once_and_reading_goes_on(
    make: Made, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    filled(make)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(BlockFiles, "_write_whole", full)
    tier = make()
    for number in range(1, 40):
        tier.put(digest(number), block(number))
    tier.close(30)
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "No space left on device" in caplog.text
    assert "Errno" not in caplog.text
    assert (tier.written, same(tier.get(digest(0)), 0)) == (0, True)


def test_a_write_that_fails_leaves_nothing_behind(
    make: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    tier = make()
    tier.put(digest(0), block(0))
    tier.close(30)
    assert not list(tmp_path.iterdir())


# -- reading ahead


def test_blocks_that_are_expected_are_read_side_by_side(make: Made) -> None:
    filled(make, 40)
    tier = make()
    tier.expect([digest(number) for number in range(45)])
    assert len(tier._reading) == disk.READ_AHEAD
    assert all(same(tier.get(digest(number)), number) for number in range(40))
    assert tier.get(digest(40)) is None
    assert not tier._reading
    assert not tier._ahead


def test_nothing_is_read_ahead_where_the_first_block_is_absent(make: Made) -> None:
    filled(make, 2)
    tier = make()
    tier.expect([digest(9), digest(0), digest(1)])
    assert not tier._reading


def test_a_new_expectation_replaces_the_last(make: Made) -> None:
    filled(make, 40)
    tier = make()
    tier.expect([digest(number) for number in range(20)])
    tier.expect([digest(number) for number in range(20, 40)])
    assert all(same(tier.get(digest(number)), number) for number in range(20, 40))
    assert same(tier.get(digest(3)), 3)
