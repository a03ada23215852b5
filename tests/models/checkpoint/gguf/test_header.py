import os
import random
import resource
import struct
import time
from array import array
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.checkpoint.gguf.header import HeaderCut, Texts, parse_gguf_header, read_gguf_header
from models.checkpoint.safetensors import WeightsError
from tests.gguf_files import NUMBERS, header, stored, text, write_gguf

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "u8": (0, 255),
    "i8": (1, -128),
    "u16": (2, 65535),
    "i16": (3, -32768),
    "u32": 7,
    "i32": (5, -7),
    "f32": 0.5,
    "flag": True,
    "u64": 2**40,
    "i64": (11, -(2**40)),
    "f64": (12, 1e100),
    "numbers": [1, -2, 3],
    "floats": [0.5, 2.0],
    "flags": [True, False],
    "words": ["one", "zwei", "三"],
    "none": [],
}


def sample(path: Path, version: int = 3, **metadata: Any) -> Path:
    tensors = {
        "a.weight": stored(np.arange(6).reshape(2, 3)),
        "b.weight": ("Q4_0", (3, 64), bytes(range(108))),
        "c": stored([1.0, 2.0], "F16"),
    }
    return write_gguf(path, {**METADATA, **metadata}, tensors, version)


@pytest.mark.parametrize("version", [2, 3])
def test_a_header_says_what_a_file_holds(tmp_path: Path, version: int) -> None:
    path = sample(tmp_path / "x.gguf", version)
    found = read_gguf_header(path)
    values = {
        key: list(value) if isinstance(value, Texts | array) else value
        for key, value in found.metadata.items()
    }
    expected = {key: value[1] if isinstance(value, tuple) else value for key, value in METADATA.items()}
    assert values == expected
    assert {name: (tensor.type.name, tensor.shape) for name, tensor in found.tensors.items()} == {
        "a.weight": ("F32", (2, 3)),
        "b.weight": ("Q4_0", (3, 64)),
        "c": ("F16", (2,)),
    }
    raw = path.read_bytes()
    blocks = found.tensors["b.weight"]
    assert raw[blocks.start : blocks.start + blocks.nbytes] == bytes(range(108))


def test_words_are_read_one_by_one_and_in_slices(tmp_path: Path) -> None:
    words = read_gguf_header(sample(tmp_path / "x.gguf")).metadata["words"]
    assert words[-1] == "三"
    assert words[:2] == ["one", "zwei"]


def test_an_alignment_of_its_own_is_kept(tmp_path: Path) -> None:
    found = read_gguf_header(sample(tmp_path / "x.gguf", **{"general.alignment": 128}))
    assert all(tensor.start % 128 == 0 for tensor in found.tensors.values())


def test_a_header_at_hand_in_part_says_how_much_is_missing(tmp_path: Path) -> None:
    whole = sample(tmp_path / "x.gguf", many=["word"] * 5000).read_bytes()
    lengths = [64]
    while lengths[-1] < len(whole) - 500:
        with pytest.raises(HeaderCut) as caught:
            parse_gguf_header(whole[: lengths[-1]], len(whole), "x")
        assert lengths[-1] < caught.value.needed <= len(whole)
        lengths.append(max(caught.value.needed, 4 * lengths[-1]))
    assert len(lengths) < 10
    assert parse_gguf_header(whole, len(whole), "x").tensors


def test_a_file_cut_short_anywhere_is_named(tmp_path: Path) -> None:
    whole = sample(tmp_path / "x.gguf").read_bytes()
    path = tmp_path / "cut.gguf"
    for kept in (*range(0, len(whole) - 1, 7), len(whole) - 1):
        path.write_bytes(whole[:kept])
        with pytest.raises(WeightsError, match=r"cut\.gguf"):
            read_gguf_header(path)


F32 = NUMBERS["F32"]
RAW = b"GGUF" + struct.pack("<IQQ", 3, 0, 1)
HOSTILE = {
    "not a GGUF file": b"PK\x03\x04" + bytes(100),
    "GGUF version 1": b"GGUF" + struct.pack("<IQQ", 1, 0, 0),
    "big-endian": b"GGUF" + struct.pack(">IQQ", 3, 0, 0),
    "declares 1,152,921,504,606,846,976 tensors": b"GGUF" + struct.pack("<IQQ", 3, 2**60, 0),
    "entries of metadata": b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60),
    "a name has 4,294,967,296 bytes": RAW + struct.pack("<Q", 2**32) + bytes(64),
    "k has 4,294,967,296 bytes": RAW + text("k") + struct.pack("<IQ", 8, 2**32) + bytes(64),
    "array of arrays": RAW + text("k") + struct.pack("<IIQ", 9, 9, 1) + bytes(64),
    "array of the unknown type 77": RAW + text("k") + struct.pack("<IIQ", 9, 77, 1) + bytes(64),
    "unknown type 99": RAW + text("k") + struct.pack("<I", 99) + bytes(64),
    "numbers in 'k'": RAW + text("k") + struct.pack("<IIQ", 9, 4, 2**50) + bytes(64),
    "strings in 'k'": RAW + text("k") + struct.pack("<IIQ", 9, 8, 2**50) + bytes(64),
    "an array of strings": RAW + text("k") + struct.pack("<IIQQ", 9, 8, 2, 2**63) + bytes(64),
    "twice": header([("k", 1), ("k", 2)], {}) + bytes(64),
    "not UTF-8": header({"k": b"\xff\xfe"}, {}) + bytes(64),
    "general.alignment is 3": header({"general.alignment": 3}, {}) + bytes(64),
    "general.alignment is x": header({"general.alignment": "x"}, {}) + bytes(64),
    "0 dimensions": header({}, {"t": (F32, [], 0)}) + bytes(64),
    "9 dimensions": header({}, {"t": (F32, [1] * 9, 0)}) + bytes(64),
    "has the shape [4611686018427387904, 4]": header({}, {"t": (F32, [2**62, 4], 0)}) + bytes(64),
    "has the shape [0]": header({}, {"t": (F32, [0], 0)}) + bytes(64),
    "needs rows of a multiple of 32": header({}, {"t": (NUMBERS["Q4_0"], [2, 48], 0)}) + bytes(64),
    "stored as NVFP4, which cannot be read": header({}, {"t": (40, [256], 0)}) + bytes(128),
    "stored as number 200": header({}, {"t": (200, [256], 0)}) + bytes(128),
    "not aligned to 32": header({}, {"t": (F32, [4], 8)}) + bytes(128),
    "overlaps 't'": header({}, {"t": (F32, [16], 0), "u": (F32, [16], 32)}) + bytes(256),
    "ends at byte": header({}, {"t": (F32, [4], 2**62)}) + bytes(128),
}  # fmt: skip


@pytest.mark.parametrize("message", HOSTILE)
def test_a_hostile_header_is_refused_with_its_fault(tmp_path: Path, message: str) -> None:
    path = tmp_path / "x.gguf"
    path.write_bytes(HOSTILE[message])
    with pytest.raises(WeightsError, match=r"x\.gguf") as caught:
        read_gguf_header(path)
    assert message in str(caught.value)


def test_a_tensor_twice_is_refused(tmp_path: Path) -> None:
    one = text("t") + struct.pack("<IQIQ", 1, 4, F32, 0)
    path = tmp_path / "x.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, 2, 0) + one + one + bytes(128))
    with pytest.raises(WeightsError, match="has the tensor 't' twice"):
        read_gguf_header(path)


def test_a_pipe_and_a_folder_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.gguf")
    (tmp_path / "folder.gguf").mkdir()
    for name in ("pipe.gguf", "folder.gguf", "missing.gguf"):
        with pytest.raises(WeightsError, match=rf"{name} cannot be read"):
            read_gguf_header(tmp_path / name)


def test_thousands_of_damaged_files_are_read_or_refused_with_little_memory(tmp_path: Path) -> None:
    whole = sample(tmp_path / "x.gguf").read_bytes()
    chance = random.Random(7)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    messages: list[str] = []
    for _ in range(4000):
        raw = bytearray(whole)
        for _ in range(chance.randint(1, 4)):
            at = chance.randrange(len(raw))
            raw[at : at + chance.choice((1, 4, 8))] = chance.choice(
                (bytes([chance.randrange(256)]), b"\xff" * 8, struct.pack("<Q", 2 ** chance.randrange(64)))
            )
        try:
            parse_gguf_header(bytes(raw), len(raw), "x.gguf")
        except WeightsError as error:
            messages.append(str(error))
    assert len(messages) > 1000
    assert max(map(len, messages)) < 1000
    assert time.process_time() - began < 60
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 300 * 1024
