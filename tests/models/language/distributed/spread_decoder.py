"""What each of two processes does to see that a decoder of shares gives what the whole network gives.

MLX_RANK=0 MLX_HOSTFILE=hosts.json python -m tests.models.language.distributed.spread_decoder qwen3 0      the bits, 0 for none
"""

import itertools
import sys

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.language.decode import reference_ops
from models.language.decode.decoder import Decoder
from models.language.decode.matmul import RowsAllToSharded, RowsShardedToAll, patch_matmul
from models.language.distributed.sharding import shard
from tests.models.language.decode.test_decoder import (
    _feed,
    _model,
    _pool,
    _prompts,
    _quantized,
    _read,
    _tables,
    _tokens,
)


def made(name: str, bits: int) -> nn.Module:
    return _quantized(name, bits=bits) if bits else _model(name)


def compare(name: str, bits: int, group: mx.distributed.Group) -> float:
    """The largest difference of several steps, of the largest logit."""
    whole, share = made(name, bits), made(name, bits)
    shard(name, share, group)
    patch_matmul(share)
    prompts = _prompts([4, 11, 1])
    if bits:
        mlp = share.model.layers[0].mlp
        assert (type(mlp.up_proj), type(mlp.down_proj)) == (RowsAllToSharded, RowsShardedToAll)
    decoder, theirs, pool = Decoder(share, reference_ops), _read(whole, prompts), _pool(share)
    if not decoder.works(pool):
        raise SystemExit("no step was taken")
    _feed(decoder, pool, prompts)
    worst = 0.0
    for step, tokens in enumerate(itertools.islice(_tokens(len(prompts)), 4)):
        expected = whole(tokens[:, None], cache=theirs)[:, -1]
        ends = np.array([len(prompt) + step for prompt in prompts], np.int32)
        actual = decoder.logits(tokens, _tables(len(prompts)), ends, pool)
        worst = max(worst, (mx.abs(actual - expected).max() / mx.abs(expected).max()).item())
    return worst


def agree(name: str, group: mx.distributed.Group) -> bool:
    """Whether the decoder is taken when the second process alone cannot take a step."""
    share = made(name, 0)
    shard(name, share, group)

    def refused(*_: object) -> mx.array:
        raise RuntimeError("no kernel image")

    kept = reference_ops.attention
    if group.rank():
        reference_ops.attention = refused
    try:
        return Decoder(share, reference_ops).works(_pool(share))
    finally:
        reference_ops.attention = kept


def main() -> None:
    name, bits = sys.argv[1], int(sys.argv[2])
    group = mx.distributed.init(strict=True, backend="ring")
    print(f"{compare(name, bits, group):.3g} {agree(name, group)}")


if __name__ == "__main__":
    main()
