import mlx.core as mx
import numpy as np
import pytest

from models.layers.rope import WrongPositions, rotary_table, rotate


def complex_rotation(x: np.ndarray, positions: np.ndarray, axes: tuple[int, ...], theta: float) -> np.ndarray:
    """Neighbouring channels as complex numbers, turned by their axis' angle."""
    angles = [
        positions[..., index, None] * theta ** (-np.arange(0, size, 2) / size)
        for index, size in enumerate(axes)
    ]
    turn = np.exp(1j * np.concatenate(angles, -1))[..., None, :]
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * turn
    return np.stack([turned.real, turned.imag], -1).reshape(x.shape)


@pytest.mark.parametrize("batch", [(), (2,)])
def test_pairs_of_channels_turn_by_their_axis_angle(batch: tuple[int, ...]) -> None:
    random = np.random.default_rng(3)
    x = random.standard_normal((2, 5, 3, 12)).astype(np.float32)
    positions = random.integers(0, 4000, (*batch, 5, 3))
    actual = np.array(rotate(mx.array(x), rotary_table(positions, (2, 6, 4), 100.0)))
    assert actual == pytest.approx(complex_rotation(x, positions, (2, 6, 4), 100.0), abs=1e-5)


def test_the_origin_is_left_where_it_is() -> None:
    x = mx.random.normal((1, 4, 2, 6))
    table = rotary_table(np.zeros((4, 3), np.int64), (2, 2, 2), 10000.0)
    assert mx.array_equal(rotate(x, table), x)


def test_the_result_has_the_streams_type() -> None:
    table = rotary_table(np.arange(4)[:, None], (8,), 10000.0)
    assert rotate(mx.ones((1, 4, 2, 8), mx.bfloat16), table).dtype == mx.bfloat16


def test_positions_with_another_number_of_axes_are_refused() -> None:
    with pytest.raises(WrongPositions, match="3 axes; the network rotates 2"):
        rotary_table(np.zeros((4, 3), np.int64), (4, 4), 10000.0)


def test_axes_of_odd_size_are_refused() -> None:
    with pytest.raises(WrongPositions, match="even sizes"):
        rotary_table(np.zeros((4, 2), np.int64), (3, 5), 10000.0)
