"""Rows of a quantized batch come to the same logits as each row alone, however they join and leave."""

import copy
from collections.abc import Callable, Sequence
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_map
from mlx_lm.models import gpt_oss, llama, qwen3
from mlx_lm.models.cache import CacheList, KVCache, QuantizedKVCache, RotatingKVCache

from models.language.cache.quantized_kv import (
    BatchQuantizedKVCache,
    KVCacheNotQuantizable,
    QuantizedRowCache,
    check_quantizable,
    quantized_row,
)

VOCABULARY = 97
FAMILIES: dict[str, Callable[[int], nn.Module]] = {
    "llama": lambda head: llama.Model(
        llama.ModelArgs(
            model_type="llama",
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=48,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=head,
            rms_norm_eps=1e-5,
            vocab_size=VOCABULARY,
        )
    ),
    "qwen3": lambda head: qwen3.Model(
        qwen3.ModelArgs(
            model_type="qwen3",
            hidden_size=32,
            num_hidden_layers=2,
            intermediate_size=48,
            num_attention_heads=3,
            num_key_value_heads=3,
            head_dim=head,
            rms_norm_eps=1e-6,
            vocab_size=VOCABULARY,
            max_position_embeddings=512,
            rope_theta=10000.0,
            tie_word_embeddings=True,
        )
    ),
}


def toy(family: str, head: int) -> nn.Module:
    mx.random.seed(7)
    model = FAMILIES[family](head)
    model.update(tree_map(lambda x: mx.random.normal(x.shape) * 0.3, model.parameters()))
    return model


class Rows:
    """Each row alone with mlx-lm's own quantized cache, and the batch whose rows must say the same."""

    def __init__(self, model: nn.Module, group_size: int, bits: int) -> None:
        self.model, self.kind = model, (group_size, bits)
        self.alone: list[list[QuantizedKVCache]] = []
        self.batch: list[BatchQuantizedKVCache] = []
        self.rng = np.random.default_rng(3)

    def row(self, length: int) -> list[QuantizedRowCache]:
        """A row that has read so many random tokens, also added to those that run alone."""
        row = [QuantizedRowCache(*self.kind) for _ in self.model.layers]
        alone = [QuantizedKVCache(*self.kind) for _ in self.model.layers]
        if length:
            tokens = self.tokens(1, length)
            self.model(tokens, cache=row)
            self.model(tokens, cache=alone)
        self.alone.append(alone)
        return row

    def tokens(self, rows: int, length: int) -> mx.array:
        return mx.array(self.rng.integers(0, VOCABULARY, (rows, length)))

    def merge(self, rows: Sequence[list[QuantizedRowCache]]) -> list[BatchQuantizedKVCache]:
        return [layer[0].merge(layer) for layer in zip(*rows, strict=True)]

    def step(self, length: int = 1) -> None:
        """All rows read on; what they say is compared."""
        tokens = self.tokens(len(self.alone), length)
        together = self.model(tokens, cache=self.batch)
        for row, cache in enumerate(self.alone):
            close(together[row], self.model(tokens[row : row + 1], cache=cache)[0])


def close(actual: mx.array, expected: mx.array) -> None:
    actual, expected = np.array(actual), np.array(expected)
    assert np.abs(actual - expected).max() <= 1e-4 * np.abs(expected).max()


CASES = [(family, head, bits) for family in FAMILIES for head in (32, 64, 128) for bits in (4, 8)]


@pytest.mark.parametrize(("family", "head", "bits"), CASES)
def test_rows_that_join_leave_and_come_back_say_what_they_say_alone(
    family: str, head: int, bits: int
) -> None:
    rows = Rows(toy(family, head), min(head, 64), bits)
    rows.batch = rows.merge([rows.row(5), rows.row(1), rows.row(9)])
    for _ in range(3):
        rows.step()
    # Two join, one of them with nothing read yet.
    for cache, new in zip(rows.batch, rows.merge([rows.row(14), rows.row(0)]), strict=True):
        cache.extend(new)
    rows.step()
    # The longest leaves, so that padding shrinks; another is taken out and put back at the end.
    out = [cache.extract(1) for cache in rows.batch]
    for cache in rows.batch:
        cache.filter([0, 2, 4])
    rows.alone = [rows.alone[0], rows.alone[2], rows.alone[4], rows.alone[1]]
    for cache, new in zip(rows.batch, rows.merge([out]), strict=True):
        cache.extend(new)
    rows.step()
    # All apart and together again.
    rows.batch = rows.merge([[cache.extract(row) for cache in rows.batch] for row in (3, 1, 0, 2)])
    rows.alone = [rows.alone[row] for row in (3, 1, 0, 2)]
    rows.step()
    rows.step(length=3)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 6, 8])
def test_every_number_of_bits_grows_past_its_first_room(bits: int) -> None:
    model = toy("llama", 32)
    prompts = [
        [int(t) for t in np.random.default_rng(row).integers(0, VOCABULARY, 250 + 9 * row)]
        for row in range(2)
    ]
    batch = [BatchQuantizedKVCache([9, 0], 32, bits) for _ in model.layers]
    padded = mx.array([[0] * 9 + prompts[0], prompts[1]])
    said = [model(padded[:, :256], cache=batch)[:, -1], model(padded[:, 256:], cache=batch)[:, -1]]
    parts = [BatchQuantizedKVCache([9, 0], 32, bits) for _ in model.layers]
    for start in range(0, 259, 37):
        last = model(padded[:, start : start + 37], cache=parts)[:, -1]
    close(last, said[1])
    assert batch[0].size() == 259


@pytest.mark.parametrize("bits", [4, 8])
def test_prompts_padded_on_the_right_are_turned_round(bits: int) -> None:
    model, lengths = toy("qwen3", 64), [3, 7, 5]
    prompts = [np.random.default_rng(n).integers(0, VOCABULARY, n).tolist() for n in lengths]
    batch = [BatchQuantizedKVCache([0, 0, 0], 64, bits) for _ in model.layers]
    for cache in batch:
        cache.prepare(lengths=lengths, right_padding=[7 - n for n in lengths])
    model(mx.array([prompt + [0] * (7 - len(prompt)) for prompt in prompts]), cache=batch)
    for cache in batch:
        cache.finalize()
    together = model(mx.array([[1], [2], [3]]), cache=batch)
    for row, prompt in enumerate(prompts):
        alone = [QuantizedKVCache(64, bits) for _ in model.layers]
        model(mx.array([prompt]), cache=alone)
        close(together[row], model(mx.array([[row + 1]]), cache=alone)[0])


def test_a_trimmed_batch_and_a_trimmed_row_forget_the_same() -> None:
    rows = Rows(toy("llama", 32), 32, 8)
    rows.batch = rows.merge([rows.row(5), rows.row(8)])
    rows.step(4)
    for cache in (*rows.batch, *rows.alone[0], *rows.alone[1]):
        assert cache.is_trimmable()
        assert cache.trim(3) == 3
    rows.step()
    taken = rows.batch[0].extract(0)
    assert (taken.offset, taken.size()) == (7, 7)


def test_a_batch_of_nothing_yet_reads_joins_and_gives_rows() -> None:
    rows = Rows(toy("llama", 32), 32, 4)
    rows.batch = rows.merge([rows.row(0), rows.row(0)])
    assert rows.batch[0].empty()
    assert rows.batch[0].nbytes == 0
    assert rows.batch[0].extract(1).empty()
    for cache, new in zip(rows.batch, rows.merge([rows.row(0)]), strict=True):
        cache.extend(new)
    for cache, new in zip(rows.batch, rows.merge([rows.row(6)]), strict=True):
        cache.extend(new)
    rows.step(4)
    rows.step()
    assert rows.batch[0].size() == 11


def test_bytes_are_a_fraction_of_the_unquantized_ones() -> None:
    rows, plain = Rows(toy("llama", 64), 64, 4), KVCache()
    rows.batch = rows.merge([rows.row(256), rows.row(200)])
    plain.update_and_fetch(mx.zeros((2, 2, 256, 64)), mx.zeros((2, 2, 256, 64)))
    # Half a byte and two float32 a group of 64, against four bytes.
    assert rows.batch[0].nbytes == plain.nbytes * (0.5 + 8 / 64) / 4
    assert rows.row(0)[0].nbytes == 0


def test_state_goes_out_and_in() -> None:
    rows = Rows(toy("llama", 32), 32, 4)
    rows.batch = rows.merge([rows.row(3), rows.row(5)])
    rows.step()
    rows.batch = [BatchQuantizedKVCache.from_state(cache.state) for cache in rows.batch]
    rows.step()
    copied = copy.deepcopy(rows.batch[0])
    assert (copied.bits, copied.group_size, copied.size()) == (4, 32, 7)


def test_caches_of_different_kinds_do_not_mix() -> None:
    with pytest.raises(ValueError, match=r"same bits and group size, not \[\(4, 64\), \(8, 64\)\]"):
        QuantizedRowCache.merge([QuantizedRowCache(64, 4), QuantizedRowCache(64, 8)])
    with pytest.raises(ValueError, match="same bits and group size"):
        BatchQuantizedKVCache([0], 64, 4).extend(BatchQuantizedKVCache([0], 32, 4))


def test_only_plain_keys_and_values_are_quantized() -> None:
    window = RotatingKVCache(max_size=8)
    assert quantized_row(window, 64, 4) is window
    pair = quantized_row(CacheList(KVCache(), window), 32, 4)
    assert isinstance(pair, CacheList)
    assert isinstance(pair[0], QuantizedRowCache)
    assert (pair[0].bits, pair[0].group_size, pair[1]) == (4, 32, window)


def test_a_model_whose_attention_cannot_read_quantized_keys_is_refused() -> None:
    def row(model: Any, group_size: int) -> list[object]:
        caches = model.make_cache() if hasattr(model, "make_cache") else [KVCache() for _ in model.layers]
        return [quantized_row(cache, group_size, 4) for cache in caches]

    model = toy("llama", 32)
    check_quantizable(model, row(model, 32))
    with pytest.raises(KVCacheNotQuantizable, match="group size"):
        check_quantizable(model, row(model, 64))
    sinks = gpt_oss.Model(
        gpt_oss.ModelArgs(
            num_hidden_layers=2,
            num_local_experts=2,
            num_experts_per_tok=1,
            vocab_size=VOCABULARY,
            hidden_size=32,
            intermediate_size=32,
            head_dim=32,
            num_attention_heads=2,
            num_key_value_heads=1,
        )
    )
    with pytest.raises(KVCacheNotQuantizable, match="sinks"):
        check_quantizable(sinks, row(sinks, 32))
