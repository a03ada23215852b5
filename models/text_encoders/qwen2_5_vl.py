"""Qwen2.5-VL as a text encoder that may see: the last hidden states of a prompt, with pictures in it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from numpy.typing import NDArray

from models.checkpoint.weights import WeightMap
from models.config import ConfigError
from models.layers.basic import attention, causal_and_real, merge_heads, split_heads
from models.text_encoders.qwen3 import FUSED, MLP, Qwen3Config
from models.vision.interface import SeenPicture
from models.vision.qwen import picture_positions
from models.vision.qwen2_5_vl import Qwen25VisionConfig, Qwen25VisionTower
from models.vision.qwen_layers import Rotation, rotate
from models.vision.qwen_processor import QwenProcessor


@dataclass(frozen=True)
class Qwen25VLConfig(Qwen3Config):
    image_token_id: int = 151655

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Older files have the text network's settings at the top level."""
        text = values.get("text_config")
        merged = {**values, **(text if isinstance(text, Mapping) else {})}
        rope = dict(merged.get("rope_parameters") or merged.get("rope_scaling") or {})
        # Both names of the one rotation over three axes that there is.
        rope = {key: "default" if value == "mrope" else value for key, value in rope.items()}
        merged |= {"rope_parameters": rope, "rope_scaling": None}
        if "head_dim" not in merged and isinstance(merged.get("hidden_size"), int):
            merged["head_dim"] = merged["hidden_size"] // max(merged.get("num_attention_heads") or 1, 1)
        return super().from_dict(merged)

    def __post_init__(self) -> None:
        super().__post_init__()
        sections = self.sections
        if len(sections) != 3 or any(type(size) is not int or size < 0 for size in sections):
            raise ConfigError(
                f"Qwen25VLConfig: mrope_section is {list(sections)}; three whole numbers are needed"
            )
        if 2 * sum(sections) != self.head_dim:
            raise ConfigError(
                f"Qwen25VLConfig: mrope_section {list(sections)} does not add up to half of a head, {self.head_dim // 2}"
            )

    @property
    def sections(self) -> tuple[int, ...]:
        """How many pairs of channels turn with time, height and width."""
        return tuple(self._rope.get("mrope_section") or ())

    def rotation(self, positions: NDArray[np.integer[Any]]) -> Rotation:
        """Of tokens at `positions` [token, axis]."""
        half = self.head_dim // 2
        inverse = self.theta ** -(np.arange(half, dtype=np.float64) / half)
        angles = np.repeat(positions, self.sections, axis=1) * inverse
        return mx.array(np.cos(angles).astype(np.float32)), mx.array(np.sin(angles).astype(np.float32))


class Attention(nn.Module):
    def __init__(self, config: Qwen25VLConfig) -> None:
        super().__init__()
        self.head_dim = config.head_dim
        self.query_size = config.num_attention_heads * config.head_dim
        self.key_size = config.key_value_heads * config.head_dim
        self.qkv_proj = nn.Linear(config.hidden_size, self.query_size + 2 * self.key_size)
        self.o_proj = nn.Linear(self.query_size, config.hidden_size, bias=False)

    def __call__(self, x: mx.array, mask: mx.array | str, turns: Rotation) -> mx.array:
        parts = mx.split(self.qkv_proj(x), [self.query_size, self.query_size + self.key_size], axis=-1)
        q, k, v = (split_heads(part, self.head_dim) for part in parts)
        return self.o_proj(merge_heads(attention(rotate(q, turns), rotate(k, turns), v, mask)))


class Layer(nn.Module):
    def __init__(self, config: Qwen25VLConfig) -> None:
        super().__init__()
        self.self_attn = Attention(config)
        self.mlp = MLP(config)
        self.input_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)

    def __call__(self, x: mx.array, mask: mx.array | str, turns: Rotation) -> mx.array:
        x = x + self.self_attn(self.input_layernorm(x), mask, turns)
        return x + self.mlp(self.post_attention_layernorm(x))


class Qwen25VLEncoder(nn.Module):
    """Token ids to the hidden states after the last norm. `vision`: with the tower, for prompts with pictures."""

    def __init__(self, config: Qwen25VLConfig, vision: Qwen25VisionConfig | None = None) -> None:
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]
        self.norm = nn.RMSNorm(config.hidden_size, config.rms_norm_eps)
        if vision is not None:
            if vision.out_hidden_size != config.hidden_size:
                raise ConfigError(
                    f"vision_config: out_hidden_size is {vision.out_hidden_size}; hidden_size, {config.hidden_size}, is needed"
                )
            self.visual = Qwen25VisionTower(vision)

    @property
    def weight_map(self) -> WeightMap:
        sees = "visual" in self
        return WeightMap(
            strip=("model.language_model.", "model."),
            drop=("lm_head.*",) if sees else ("lm_head.*", "visual.*"),
            fuse=FUSED,
            flat=("visual.patch_embed.proj",) if sees else (),
        )

    def __call__(self, ids: mx.array, mask: mx.array | None = None) -> mx.array:
        """`ids` and `mask` are [batch, length]; `mask` is 0 for padding behind a prompt. None: there is no padding."""
        visible = "causal" if mask is None else causal_and_real(mask)
        positions = np.repeat(np.arange(ids.shape[1])[:, None], 3, axis=1)
        return self._run(self.embed_tokens(ids), visible, self.config.rotation(positions))

    def see(self, picture: SeenPicture, processor: QwenProcessor) -> mx.array:
        """The rows that stand for a picture in a prompt, [token, channel]."""
        patches = processor.numbers(picture).astype(self.norm.weight.dtype)
        rows: mx.array = self.visual(patches, picture.grid)
        return rows

    def with_pictures(
        self, ids: Sequence[int], pictures: Sequence[SeenPicture], rows: mx.array, merge: int
    ) -> mx.array:
        """The states [1, token, channel] of a prompt in which the placeholder stands for each of `rows`."""
        placeholder = self.config.image_token_id
        places = np.flatnonzero(np.asarray(ids) == placeholder)
        if len(places) != len(rows):
            raise ValueError(f"the prompt has {len(places)} places for the {len(rows)} rows of its pictures")
        x = self.embed_tokens(mx.array([list(ids)]))
        x[:, mx.array(places)] = rows.astype(x.dtype)
        positions = picture_positions(ids, [picture.grid for picture in pictures], placeholder, merge)
        return self._run(x, "causal", self.config.rotation(positions))

    def _run(self, x: mx.array, visible: mx.array | str, turns: Rotation) -> mx.array:
        for layer in self.layers:
            x = layer(x, visible, turns)
        return self.norm(x)
