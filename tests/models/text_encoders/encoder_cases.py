"""Toy text encoders: what they look like, their weights by seed, and what goes in. Needs neither torch nor files."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.text_encoders.clip import CLIPTextConfig, CLIPTextEncoder
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from models.text_encoders.t5 import T5Config, T5Encoder

Encoder = Qwen3Encoder | T5Encoder | CLIPTextEncoder


@dataclass(frozen=True)
class Case:
    """One toy: the transformers class that defines it, the arguments of its config, and a batch of lengths."""

    reference: str
    config: Mapping[str, Any]
    lengths: tuple[int, ...] = (7, 11)
    masked: bool = True
    depths: tuple[int, ...] = (-1,)
    left: bool = False
    seed: int = 0
    ids: tuple[tuple[int, ...], ...] | None = field(default=None)

    @property
    def kind(self) -> str:
        return {"Q": "qwen3", "T": "t5", "C": "clip"}[self.reference[0]]

    def batch(self) -> tuple[NDArray[np.int32], NDArray[np.int32] | None]:
        """Token ids, and a mask that is 1 where they are real."""
        if self.ids is not None:
            return np.array(self.ids, np.int32), None
        longest = max(self.lengths)
        random = np.random.default_rng(self.seed + 1)
        ids = random.integers(3, self.config["vocab_size"], (len(self.lengths), longest)).astype(np.int32)
        mask = (np.arange(longest)[None] < np.array(self.lengths)[:, None]).astype(np.int32)
        if self.left:
            mask = mask[:, ::-1].copy()
        return np.where(mask, ids, 0), mask if self.masked else None


def qwen3(**changes: Any) -> dict[str, Any]:
    base = {
        "vocab_size": 97, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 4, "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 8, "tie_word_embeddings": True,
    }  # fmt: skip
    return base | changes


def t5(**changes: Any) -> dict[str, Any]:
    base = {
        "vocab_size": 61, "d_model": 24, "d_kv": 8, "d_ff": 40, "num_layers": 2, "num_heads": 3,
        "feed_forward_proj": "gated-gelu",
    }  # fmt: skip
    return base | changes


def clip(**changes: Any) -> dict[str, Any]:
    base = {
        "vocab_size": 71, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 3,
        "max_position_embeddings": 16, "eos_token_id": 70, "bos_token_id": 69, "pad_token_id": 70,
    }  # fmt: skip
    return base | changes


CASES = {
    "qwen3-three-depths": Case("Qwen3ForCausalLM", qwen3(), depths=(1, 2, 3)),
    "qwen3-last-but-one": Case(
        "Qwen3Model",
        qwen3(num_hidden_layers=5, num_key_value_heads=1, head_dim=12, rope_parameters={"rope_type": "default", "rope_theta": 1e6}),
        depths=(-2,),
    ),
    "qwen3-normed-untied": Case(
        "Qwen3ForCausalLM",
        qwen3(hidden_size=20, num_key_value_heads=4, head_dim=6, num_hidden_layers=3, tie_word_embeddings=False,
              attention_bias=True, rms_norm_eps=1e-5),
        depths=(0, -1), masked=False,
    ),
    "qwen3-padded-left": Case("Qwen3Model", qwen3(head_dim=10, intermediate_size=23), depths=(2,), left=True),
    "t5-xxl-like": Case("T5EncoderModel", t5(), masked=False, lengths=(40, 40)),
    "t5-padded": Case("T5EncoderModel", t5(d_model=20, d_kv=6, num_heads=5, num_layers=3, relative_attention_num_buckets=12, relative_attention_max_distance=20), lengths=(9, 33)),
    "t5-plain-relu": Case("T5EncoderModel", t5(feed_forward_proj="relu", d_ff=13, num_layers=1, layer_norm_epsilon=1e-5)),
    "t5-gated-silu": Case("T5EncoderModel", t5(feed_forward_proj="gated-silu", num_heads=1, d_kv=14)),
    "clip-first-end": Case("CLIPTextModel", clip(), ids=((69, 5, 9, 70, 70, 70), (69, 7, 8, 9, 10, 70))),
    "clip-legacy-end": Case("CLIPTextModel", clip(eos_token_id=2, num_attention_heads=2, num_hidden_layers=3), ids=((69, 5, 70, 1, 1), (69, 70, 2, 2, 2))),
    "clip-gelu-no-end": Case("CLIPTextModel", clip(hidden_act="gelu", hidden_size=30, num_attention_heads=5, layer_norm_eps=1e-6), ids=((4, 5, 6, 7), (8, 70, 3, 70))),
}  # fmt: skip


def encoder(case: Case, config: Mapping[str, Any]) -> Encoder:
    """Diptych's network for a case, from the config.json that transformers wrote."""
    if case.kind == "qwen3":
        return Qwen3Encoder(Qwen3Config.from_dict(config), case.depths)
    if case.kind == "t5":
        return T5Encoder(T5Config.from_dict(config))
    return CLIPTextEncoder(CLIPTextConfig.from_dict(config))


def weights(shapes: Mapping[str, list[int]], seed: int) -> dict[str, NDArray[np.float32]]:
    """Random weights of a size that keeps every layer alive, the same on every machine."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name in sorted(shapes):
        value = random.standard_normal(shapes[name])
        if len(shapes[name]) == 1:
            value = 0.1 * value + (0.0 if name.endswith("bias") else 1.0)
        elif "embed" not in name and "shared" not in name:
            value *= 1.5 / math.sqrt(shapes[name][-1])
        tensors[name] = value.astype(np.float32)
    return tensors
