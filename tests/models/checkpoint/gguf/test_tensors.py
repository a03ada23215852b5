from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.gguf import tensors as reading
from models.checkpoint.gguf.blocks import dequantize
from models.checkpoint.gguf.shard import Edit, GGUFShard
from models.checkpoint.gguf.types import TYPES
from models.checkpoint.safetensors import WeightsError
from models.checkpoint.weights import read_shards
from tests.gguf_files import NUMBERS, stored, write_gguf
from tests.models.checkpoint.gguf.blocks import random_blocks


def blocks(kind: str, rows: int, columns: int) -> tuple[tuple[str, tuple[int, ...], bytes], np.ndarray]:
    """A tensor of random blocks, and its values."""
    type_ = TYPES[NUMBERS[kind]]
    raw = random_blocks(type_, rows * columns // type_.values, seed=rows)
    return (kind, (rows, columns), raw.tobytes()), dequantize(type_, raw.reshape(-1)).reshape(rows, columns)


def shard(
    path: Path, metadata: dict[str, Any], tensors: Any, edits: Any = None, half: Any = "float16"
) -> GGUFShard:
    write_gguf(path, metadata, tensors)
    return GGUFShard(path, {name: f"x.{name}" for name in tensors}, edits or {}, half)


@pytest.mark.parametrize("piece", [1, 5000, 2**24])
@pytest.mark.parametrize("kind", ["Q4_1", "Q5_0", "Q8_0", "Q4_K", "Q5_K", "Q6_K"])
def test_a_quantized_layer_is_read_in_pieces_of_any_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, piece: int
) -> None:
    monkeypatch.setattr(reading, "PIECE", piece)
    tensor, values = blocks(kind, 37, 512)
    one = shard(tmp_path / "x.gguf", {}, {"w.weight": tensor})
    packed = read_shards("x", [one], "float32")
    packing = TYPES[NUMBERS[kind]].packing
    assert packing is not None
    parts = (packed[f"x.w.{part}"] for part in ("weight", "scales", "biases"))
    found = np.array(mx.dequantize(*parts, 32, packing.bits))
    np.testing.assert_allclose(found, values, atol=0 if packing.exact else np.ptp(values) / 255)
    np.testing.assert_array_equal(np.array(read_shards("x", [one], "unpacked")["x.w.weight"]), values)


def test_halves_are_kept_as_they_are_and_float32_becomes_half(tmp_path: Path) -> None:
    values = np.linspace(-3, 3, 12, dtype=np.float32).reshape(3, 4)
    tensors = {kind: stored(values, kind) for kind in ("F32", "F16", "BF16")}
    for half in ("float16", "bfloat16"):
        one = shard(tmp_path / f"{half}.gguf", {}, tensors, half=half)
        found = read_shards("x", [one])
        assert {str(value.dtype) for value in found.values()} == {f"mlx.core.{half}"}
        assert mx.array_equal(found["x.F32"], mx.array(values).astype(getattr(mx, half)))
        wide = read_shards("x", [one], "float32")
        np.testing.assert_array_equal(np.array(wide["x.F32"]), values)
        np.testing.assert_array_equal(np.array(wide["x.F16"]), values.astype(np.float16).astype(np.float32))


def test_rows_in_pairs_are_put_back_quantized_or_not(tmp_path: Path) -> None:
    """Two heads of six rows: the first half of a head beside the second."""
    rows = np.arange(12).reshape(2, 2, 3)
    order = rows.swapaxes(1, 2).reshape(-1)
    tensor, values = blocks("Q4_0", 12, 64)
    tensors = {"q.weight": tensor, "p.weight": stored(values), "q.bias": stored(np.arange(12)[order])}
    edits = dict.fromkeys(tensors, Edit("pairs", 2))
    found = read_shards("x", [shard(tmp_path / "x.gguf", {}, tensors, edits)], "unpacked")
    np.testing.assert_array_equal(np.array(found["x.q.bias"]), np.arange(12))
    for name in ("x.q.weight", "x.p.weight"):
        np.testing.assert_array_equal(np.array(found[name])[order], values)


def test_norms_lose_the_one_that_was_added_and_a_flat_matrix_gets_its_row(tmp_path: Path) -> None:
    tensors = {"norm.weight": stored([1.25, 0.5]), "gate.weight": stored([1.0, 2.0])}
    edits = {"norm.weight": Edit("plus_one"), "gate.weight": Edit("flat")}
    found = read_shards("x", [shard(tmp_path / "x.gguf", {}, tensors, edits)], "float32")
    assert found["x.norm.weight"].tolist() == [0.25, -0.5]
    assert found["x.gate.weight"].shape == (1, 2)


def test_experts_stay_stacked(tmp_path: Path) -> None:
    (kind, _, raw), values = blocks("Q4_K", 6, 256)
    one = shard(tmp_path / "x.gguf", {}, {"e.weight": (kind, (3, 2, 256), raw)})
    found = read_shards("x", [one], "float32")
    assert [found[f"x.e.{part}"].shape for part in ("weight", "scales")] == [(3, 2, 32), (3, 2, 8)]
    np.testing.assert_array_equal(
        np.array(read_shards("x", [one], "unpacked")["x.e.weight"]), values.reshape(3, 2, 256)
    )


def test_what_is_lost_is_noted_and_nothing_where_nothing_is(tmp_path: Path) -> None:
    notes: list[str] = []
    tensors = {"w.weight": blocks("Q4_K", 4, 256)[0]}
    read_shards("x", [shard(tmp_path / "x.gguf", {}, tensors)], "half", notes)
    assert not notes
    tensors["v.weight"] = blocks("Q6_K", 4, 256)[0]
    read_shards("x", [shard(tmp_path / "y.gguf", {}, tensors)], "half", notes)
    assert "no weight differs by more than" in notes[0]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = shard(tmp_path / "x.gguf", {}, {"w.weight": blocks("Q8_0", 64, 512)[0]})
    header = reading.read_gguf_header(one.path)
    one.path.write_bytes(one.path.read_bytes()[:-9000])
    monkeypatch.setattr(reading, "read_gguf_header", lambda path: header)
    with pytest.raises(WeightsError, match="was cut short while it was read"):
        read_shards("x", [one])


def test_a_tensor_in_two_files_is_an_error(tmp_path: Path) -> None:
    shards = [shard(tmp_path / f"{n}.gguf", {}, {"a": stored([1.0])}) for n in range(2)]
    with pytest.raises(WeightsError, match="stored twice"):
        read_shards("x", shards)
