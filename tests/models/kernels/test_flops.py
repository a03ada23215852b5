"""Operations are counted from the graph, whatever the layers are."""

import mlx.core as mx
import mlx.nn as nn

from models.kernels.flops import count_flops, device_rate


def test_a_product_is_two_operations_for_each_number_summed() -> None:
    layer = nn.Linear(32, 64)
    assert count_flops(layer, mx.zeros((10, 32))) == 2 * 10 * 32 * 64


def test_quantized_products_count_like_whole_ones() -> None:
    layer = nn.QuantizedLinear(64, 128, bias=False)
    assert count_flops(layer, mx.zeros((3, 64))) == 2 * 3 * 64 * 128


def test_attention_counts_both_its_products() -> None:
    def attend(x: mx.array) -> mx.array:
        return mx.fast.scaled_dot_product_attention(x, x, x, scale=1.0)

    assert count_flops(attend, mx.zeros((1, 4, 10, 32))) == 2 * 2 * 4 * 10 * 10 * 32


def test_a_convolution_counts_its_window() -> None:
    layer = nn.Conv2d(3, 8, 3, padding=1)
    assert count_flops(layer, mx.zeros((1, 8, 8, 3))) == 2 * 8 * 8 * 8 * 27


def test_what_is_compiled_inside_is_counted_too_and_compiles_again_afterwards() -> None:
    layer = nn.Linear(16, 16, bias=False)
    twice = mx.compile(lambda x: nn.silu(layer(layer(x))))
    assert count_flops(twice, mx.zeros((4, 16))) == 2 * 2 * 4 * 16 * 16
    assert mx.all(twice(mx.zeros((4, 16))) == 0)


def test_the_rate_of_a_device_is_measured() -> None:
    assert device_rate(mx.float32) > 1e8
