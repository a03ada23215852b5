from importlib.util import find_spec
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest

from models.checkpoint.gguf.blocks import dequantize
from models.checkpoint.gguf.pack import pack_rows
from models.checkpoint.gguf.types import GROUP, TYPES
from tests.models.checkpoint.gguf.blocks import random_blocks

REFERENCE = np.load(Path(__file__).parent / "references" / "blocks.npz")
QUANTIZED = {type_.name: type_ for type_ in TYPES.values() if type_.packing is not None}
EXACT = [name for name, type_ in QUANTIZED.items() if type_.packing and type_.packing.exact]


def test_there_is_a_reference_for_every_quantized_type() -> None:
    assert {name.split(".")[0] for name in REFERENCE.files} == set(QUANTIZED)


@pytest.mark.parametrize("name", QUANTIZED)
def test_values_are_those_of_the_format_bit_for_bit(name: str) -> None:
    raw, values = REFERENCE[f"{name}.raw"], REFERENCE[f"{name}.values"]
    assert np.abs(values).max() > 0.001
    np.testing.assert_array_equal(dequantize(QUANTIZED[name], raw.reshape(-1)), values.reshape(-1))


@pytest.mark.weights
@pytest.mark.parametrize("name", QUANTIZED)
def test_values_are_those_that_gguf_computes(name: str) -> None:
    if find_spec("gguf") is None:
        pytest.skip("gguf is not installed")
    import gguf

    raw = random_blocks(QUANTIZED[name], 3000, seed=11)
    values = gguf.dequantize(raw, gguf.GGMLQuantizationType[name])
    np.testing.assert_array_equal(dequantize(QUANTIZED[name], raw.reshape(-1)), values.reshape(-1))


def unpacked(name: str, raw: np.ndarray) -> tuple[np.ndarray, float]:
    """What MLX makes of packed rows, two blocks a row."""
    type_ = QUANTIZED[name]
    packed = pack_rows(type_, raw.reshape(-1, 2 * type_.bytes))
    assert type_.packing is not None
    arrays = (mx.array(part) for part in packed[:3])
    return np.array(mx.dequantize(*arrays, GROUP, type_.packing.bits)), packed.error


@pytest.mark.parametrize("name", EXACT)
def test_packed_layers_hold_the_same_values(name: str) -> None:
    raw = random_blocks(QUANTIZED[name], 64, seed=5)
    values, error = unpacked(name, raw)
    np.testing.assert_array_equal(values.reshape(-1), dequantize(QUANTIZED[name], raw.reshape(-1)))
    assert error == 0


@pytest.mark.parametrize("name", sorted(set(QUANTIZED) - set(EXACT)))
def test_what_mlx_has_no_layout_for_is_close_and_its_error_is_told(name: str) -> None:
    raw = random_blocks(QUANTIZED[name], 64, seed=5)
    values, error = unpacked(name, raw)
    exact = dequantize(QUANTIZED[name], raw.reshape(-1))
    largest = np.abs(values.reshape(-1) - exact).max()
    assert 0 < largest <= error * 1.01
    spread = np.ptp(exact.reshape(-1, GROUP), axis=-1).max()
    assert error <= spread / 255 * 0.51


def test_a_group_of_one_value_stays_that_value() -> None:
    raw = np.zeros((2, QUANTIZED["Q6_K"].bytes), np.uint8)
    values, error = unpacked("Q6_K", raw)
    assert not values.any()
    assert error == 0


def test_plain_numbers_are_read_as_they_are() -> None:
    values = np.array([0.0, 1.5, -2.25, 3e-5], np.float32)
    halves = values.astype("<f2")
    by_name = {type_.name: type_ for type_ in TYPES.values()}
    np.testing.assert_array_equal(dequantize(by_name["F32"], values.view(np.uint8)), values)
    np.testing.assert_array_equal(
        dequantize(by_name["F16"], halves.view(np.uint8)), halves.astype(np.float32)
    )
    short = (values.view(np.uint32) >> 16).astype("<u2")
    expected = (short.astype(np.uint32) << 16).view(np.float32)
    np.testing.assert_array_equal(dequantize(by_name["BF16"], short.view(np.uint8)), expected)
