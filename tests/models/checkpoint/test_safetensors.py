import json
import os
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from models.checkpoint.safetensors import TensorInfo, WeightsError, parse_header, read_header


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
    with pytest.raises(WeightsError, match=r"cut\.safetensors is (cut short|not a safetensors file)"):
        read_header(path)


@pytest.mark.parametrize(
    ("header", "data", "message"),
    [
        (b"{not json", b"", "its header is not JSON"),
        (b"\xff\xfe", b"", "its header is not JSON"),
        (b'{"a":' * 100_000, b"", "its header is not JSON"),
        ([1], b"", "not a JSON object"),
        ({"__metadata__": 7}, b"", "__metadata__ in its header is not a JSON object"),
        ({"a": entry(0, 8, [True, 2])}, bytes(8), "a is declared without"),
        ({"a": {"dtype": 3, "shape": [2], "data_offsets": [0, 8]}}, bytes(8), "a is declared without"),
        ({"a": {"dtype": "F32", "shape": 2, "data_offsets": [0, 8]}}, bytes(8), "a is declared without"),
        (
            {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0.0, 8.0]}},
            bytes(8),
            "a is declared without",
        ),
        ({"a": entry(8, 0, [2])}, bytes(8), "takes -8 bytes"),
        ({"a": entry(0, 8, [2**40, 2**40])}, bytes(8), "takes 8 bytes"),
        ({"a": entry(0, 8, [3])}, bytes(8), "takes 8 bytes"),
        ({"a": entry(0, 4, [-1])}, bytes(4), "a is declared without"),
        ({"a": {"dtype": "F32"}}, b"", "a is declared without"),
        ({"a": 3}, b"", "a is declared without"),
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


@pytest.mark.parametrize("length", [2**63, 2**64 - 1, 100_000_001])
def test_a_header_length_that_no_file_has_is_refused(tmp_path: Path, length: int) -> None:
    with pytest.raises(WeightsError, match="cut short or damaged"):
        read_header(write(tmp_path / "bad", b"{}", b"", length=length))


def test_what_is_no_file_cannot_be_read(tmp_path: Path) -> None:
    for target in (tmp_path, Path("/dev/zero")):
        with pytest.raises(WeightsError, match="cannot be read"):
            read_header(target)


def test_what_the_library_writes_is_read(tmp_path: Path) -> None:
    arrays = {
        "a": np.zeros((2, 3), np.float32),
        "none": np.zeros((0, 4), np.float16),
        "one": np.array(1, np.int64),
    }
    save_file(arrays, tmp_path / "x", metadata={"quant_type": "int4"})
    header = read_header(tmp_path / "x")
    assert {name: (info.dtype, info.shape, info.nbytes) for name, info in header.tensors.items()} == {
        "a": ("F32", (2, 3), 24),
        "none": ("F16", (0, 4), 0),
        "one": ("I64", (), 8),
    }
    assert header.metadata == {"quant_type": "int4"}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.binary(max_size=100)
    | st.dictionaries(st.text(max_size=5), JSON, max_size=3).map(lambda header: json.dumps(header).encode())
)
def test_anything_is_a_header_or_a_clear_error(raw: bytes) -> None:
    try:
        tensors: dict[str, TensorInfo] = parse_header(raw, 100, "the file").tensors
    except WeightsError as error:
        message = str(error)
    else:
        message = "the file" if all(info.end <= 100 for info in tensors.values()) else "beyond its end"
    assert message.startswith("the file")


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match="not a regular file"):
        read_header(tmp_path / "model.safetensors")
