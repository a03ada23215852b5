"""Headers of safetensors files, good and hostile."""

import json
import os
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from runner.errors import ModelNotSupported
from runner.sources.safetensors import TensorInfo, parse_header, read_header
from tests.runner.checkpoints import WEIGHTS, safetensors


def with_header(header: object, data: bytes = b"") -> bytes:
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + data


def entry(**changes: object) -> dict[str, object]:
    return {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes}


def test_a_file_that_the_library_wrote_is_read(tmp_path: Path) -> None:
    tensors = {
        "a": np.zeros((2, 3), np.float32),
        "empty": np.zeros((0, 4), np.float16),
        "scalar": np.array(1, np.int64),
    }
    save_file(tensors, tmp_path / "x", metadata={"quant_type": "int4"})
    header = read_header(tmp_path / "x")
    assert header.tensors == {
        "a": TensorInfo("F32", (2, 3), 24),
        "empty": TensorInfo("F16", (0, 4), 0),
        "scalar": TensorInfo("I64", (), 8),
    }
    assert header.metadata == {"quant_type": "int4"}


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it has only 0 bytes"),
        (b"\x01\x02", "it has only 2 bytes"),
        (struct.pack("<Q", 2**63) + b"{}", "header of 9,223,372,036,854,775,808 bytes"),
        (struct.pack("<Q", 2**64 - 1), "the format allows"),
        (struct.pack("<Q", 5000) + b'{"a":', "cut short inside its header"),
        (with_header(b"not json"), "not JSON"),
        (with_header(b"\xff\xfe\xfd"), "not JSON"),
        (with_header(b'{"a":' * 100_000), "not JSON"),
        (with_header([]), "not a JSON object"),
        (with_header({"__metadata__": 7}), "__metadata__"),
        (with_header({"w": 7}), "cannot be read"),
        (with_header({"w": {}}), "cannot be read"),
        (with_header(entry(shape=[-2]), bytes(8)), "cannot be read"),
        (with_header(entry(shape=["2"]), bytes(8)), "cannot be read"),
        (with_header(entry(shape=[True, 2]), bytes(8)), "cannot be read"),
        (with_header(entry(shape=2), bytes(8)), "cannot be read"),
        (with_header(entry(dtype=3), bytes(8)), "cannot be read"),
        (with_header(entry(data_offsets=[8, 0]), bytes(8)), "cannot be read"),
        (with_header(entry(data_offsets=[0]), bytes(8)), "cannot be read"),
        (with_header(entry(data_offsets=[0.0, 8.0]), bytes(8)), "cannot be read"),
        (with_header(entry(data_offsets=[0, 2**70])), "cut short: tensor 'w' ends at byte"),
        (with_header(entry(shape=[2**40, 2**40]), bytes(8)), "but has 8 bytes"),
    ],
)
def test_a_broken_file_is_an_error_that_names_it(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "w.safetensors").write_bytes(content)
    with pytest.raises(ModelNotSupported, match=reason) as raised:
        read_header(tmp_path / "w.safetensors")
    assert "w.safetensors" in raised.value.message
    assert len(raised.value.message) < 1000


def test_a_download_that_was_cut_short_is_noticed(tmp_path: Path) -> None:
    content = safetensors(WEIGHTS)
    (tmp_path / "w").write_bytes(content[:-1])
    with pytest.raises(ModelNotSupported, match=r"cut short: tensor 'model\.norm\.weight'"):
        read_header(tmp_path / "w")


def test_what_is_no_file_is_an_error(tmp_path: Path) -> None:
    os.mkdir(tmp_path / "folder")
    for name in ("folder", "absent"):
        with pytest.raises(ModelNotSupported, match="cannot be read"):
            read_header(tmp_path / name)


def assert_header_or_error(raw: bytes) -> None:
    message = ""
    try:
        assert all(info.bytes <= 100 for info in parse_header(raw, 100, "x").tensors.values())
    except ModelNotSupported as error:
        message = error.message
    assert not message or message.startswith("x")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_header_or_a_clear_error(raw: bytes) -> None:
    assert_header_or_error(raw)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["dtype", "shape", "data_offsets"]), inner)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=3))
def test_any_json_is_a_header_or_a_clear_error(header: object) -> None:
    assert_header_or_error(json.dumps(header).encode())
