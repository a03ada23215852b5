"""Names of pictures: what was asked for, or a new one that says what is in it."""

import stat
from pathlib import Path

import pytest

from runner.cli.output import Target, format_of, slug
from runner.errors import BadRequest


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red circle", "a-red-circle"),
        ("  größer als 海!? ", "größer-als-海"),
        ("../../etc/passwd", "etc-passwd"),
        ("word " * 30, "word-word-word-word-word-word-word-word"),
        ("x" * 100, "x" * 40),
        ("🫖 …", "picture"),
        ("a\0b\nc_d", "a-b-c-d"),
    ],
)
def test_a_prompt_becomes_a_name_that_any_system_takes(prompt: str, name: str) -> None:
    assert slug(prompt) == name


@pytest.mark.parametrize(
    ("out", "choice", "format"),
    [
        (None, None, "png"),
        ("x.png", None, "png"),
        ("x.JPG", None, "jpeg"),
        ("x.jpeg", "jpeg", "jpeg"),
        ("x.webp", None, "webp"),
        ("x", "webp", "webp"),
        (None, "jpeg", "jpeg"),
    ],
)
def test_the_format_is_what_is_asked_for_or_what_the_name_says(
    out: str | None, choice: str | None, format: str
) -> None:
    assert format_of(Path(out) if out else None, choice) == format


def test_a_name_and_a_format_that_disagree_are_refused() -> None:
    with pytest.raises(BadRequest, match=r"x\.png is the name of a png file, but --format says webp"):
        format_of(Path("x.png"), "webp")
    with pytest.raises(BadRequest, match=r"cannot write \.gif files; use \.png"):
        format_of(Path("x.gif"), None)


def test_a_made_up_name_is_never_one_that_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.strftime", lambda _: "20260102-030405")
    target = Target(tmp_path, "A boat", "png", 1)
    written = [target.write(bytes([number]), 0) for number in range(3)]
    assert [path.name for path in written] == [
        "a-boat-20260102-030405.png",
        "a-boat-20260102-030405-2.png",
        "a-boat-20260102-030405-3.png",
    ]
    assert [path.read_bytes() for path in written] == [b"\0", b"\1", b"\2"]


def test_a_name_that_was_given_is_replaced_whole(tmp_path: Path) -> None:
    out = tmp_path / "x.png"
    out.write_bytes(b"old")
    assert Target(out, "A boat", "png", 1).write(b"new", 0) == out
    assert out.read_bytes() == b"new"
    assert stat.S_IMODE(out.stat().st_mode) & 0o400
    assert list(tmp_path.iterdir()) == [out], "nothing else is left"


def test_several_pictures_are_numbered_from_one(tmp_path: Path) -> None:
    target = Target(tmp_path / "x.webp", "A boat", "webp", 2)
    assert [target.write(b"", index).name for index in (0, 1)] == ["x-1.webp", "x-2.webp"]


def test_a_preview_is_beside_its_picture_and_goes(tmp_path: Path) -> None:
    target = Target(tmp_path / "x.png", "A boat", "png", 1)
    target.remove_preview()
    target.write_preview(b"one")
    target.write_preview(b"two")
    assert (tmp_path / "x.preview.png").read_bytes() == b"two"
    target.remove_preview()
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_is_said_before_anything_is_drawn(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="it is not a folder"):
        Target(tmp_path / "nowhere" / "x.png", "A boat", "png", 1)
    # Its permissions allow the superuser everything.
    with pytest.raises(BadRequest, match="cannot write pictures to /proc: "):
        Target(Path("/proc/x.png"), "A boat", "png", 1)
