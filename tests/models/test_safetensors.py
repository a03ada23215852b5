import json
import struct
from pathlib import Path
from typing import Any

import pytest

from models.safetensors import WeightsError, read_header


def write(path: Path, header: Any, data: bytes, length: int | None = None) -> Path:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(raw) if length is None else length) + raw + data)
    return path


def entry(start: int, end: int, shape: list[int], dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}


def test_a_header_says_what_a_file_holds(tmp_path: Path) -> None:
    path = write(
        tmp_path / "x",
        {"__metadata__": {"format": "pt"}, "b": entry(8, 14, [3, 1], "BF16"), "a": entry(0, 8, [2])},
        bytes(14),
    )
    header = read_header(path)
    assert header.metadata == {"format": "pt"}
    assert header.tensors["b"].shape == (3, 1)
    assert {name: info.nbytes for name, info in header.tensors.items()} == {"a": 8, "b": 6}


@pytest.mark.parametrize("kept", [0, 3, 8, 30, 80, 99])
def test_a_file_cut_short_anywhere_is_named(tmp_path: Path, kept: int) -> None:
    path = write(tmp_path / "cut.safetensors", {"a": entry(0, 40, [10])}, bytes(40))
    whole = path.read_bytes()
    assert len(whole) > kept
    path.write_bytes(whole[:kept])
    with pytest.raises(WeightsError, match=r"cut\.safetensors is (cut short|no safetensors file)"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{not json", b"", "its header is no JSON"),
        (b"\xff\xfe", b"", "its header is no JSON"),
        ([1], b"", "no JSON object"),
        ({"a": entry(0, 8, [3])}, bytes(8), "takes 8 bytes"),
        ({"a": entry(0, 4, [-1])}, bytes(4), "a is declared as"),
        ({"a": {"dtype": "F32"}}, b"", "a is declared as"),
        ({"a": 3}, b"", "a is declared as"),
        ({"a": entry(0, 4, [1], "F99")}, bytes(4), "a has the unknown type F99"),
        ({"a": entry(0, 4, [1]), "b": entry(0, 4, [1])}, bytes(4), "overlap or leave a gap"),
        ({"a": entry(4, 8, [1])}, bytes(8), "overlap or leave a gap"),
        ({"a": entry(0, 4, [1])}, bytes(9), "5 bytes follow the last tensor"),
    ],
)
def test_a_damaged_file_is_named_with_what_is_wrong(
    tmp_path: Path, header: Any, data: bytes, message: str
) -> None:
    path = write(tmp_path / "bad.safetensors", header, data)
    with pytest.raises(WeightsError, match=message) as caught:
        read_header(path)
    assert str(path) in str(caught.value)


def test_a_header_longer_than_its_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    path = write(tmp_path / "bad", b"{}", b"", length=2**62)
    with pytest.raises(WeightsError, match="cut short or damaged"):
        read_header(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"gone cannot be read: No such file"):
        read_header(tmp_path / "gone")
