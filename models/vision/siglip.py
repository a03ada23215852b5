"""SigLIP's vision transformer, as Gemma 3, Idefics 3 and SmolVLM have it, without its pooling head."""

from collections.abc import Mapping
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from models.config import Config, ConfigError
from models.layers.attention import softmax_attention
from models.layers.basic import activation, merge_heads, split_heads
from models.vision.pixels import positive
from models.vision.settings import flat_kernel


@dataclass(frozen=True)
class SiglipConfig(Config):
    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 16
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6

    def __post_init__(self) -> None:
        where = "vision_config"
        positive(
            where,
            hidden_size=self.hidden_size,
            intermediate_size=self.intermediate_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            patch_size=self.patch_size,
        )
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                f"{where}: num_attention_heads is {self.num_attention_heads}; it has to divide hidden_size, {self.hidden_size}"
            )
        if self.image_size < self.patch_size:
            raise ConfigError(
                f"{where}: image_size is {self.image_size}; at least patch_size, {self.patch_size}, is needed"
            )

    @property
    def side(self) -> int:
        """Patches beside each other in a picture of image_size."""
        return self.image_size // self.patch_size


class Attention(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.head_dim = size // config.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (nn.Linear(size, size) for _ in range(4))

    def __call__(self, x: mx.array) -> mx.array:
        q, k, v = (split_heads(layer(x), self.head_dim) for layer in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(merge_heads(softmax_attention(q, k, v, self.head_dim**-0.5)))


class MLP(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.act = activation(config.hidden_act)
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def __call__(self, x: mx.array) -> mx.array:
        return self.fc2(self.act(self.fc1(x)))


class Layer(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.layer_norm2 = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)
        self.self_attn = Attention(config)
        self.mlp = MLP(config)

    def __call__(self, x: mx.array) -> mx.array:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class Embeddings(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.patch_embedding = nn.Linear(config.num_channels * config.patch_size**2, config.hidden_size)
        self.position_embedding = nn.Embedding(config.side**2, config.hidden_size)


class Encoder(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.layers = [Layer(config) for _ in range(config.num_hidden_layers)]


class SiglipTower(nn.Module):
    def __init__(self, config: SiglipConfig) -> None:
        super().__init__()
        self.patch_size = config.patch_size
        self.embeddings = Embeddings(config)
        self.encoder = Encoder(config)
        self.post_layernorm = nn.LayerNorm(config.hidden_size, config.layer_norm_eps)

    def __call__(self, pixels: mx.array, positions: mx.array) -> mx.array:
        """`pixels` [picture, channel, row, column], all of one size, and the learned positions of their patches [patch];
        [picture, patch, hidden_size]."""
        x = self.embeddings.patch_embedding(patches(pixels, self.patch_size))
        x = x + self.embeddings.position_embedding(positions)
        for layer in self.encoder.layers:
            x = layer(x)
        return self.post_layernorm(x)


def patches(pixels: mx.array, size: int) -> mx.array:
    """[picture, channel, row, column] as [picture, patch, channel x row x column]; what is left at the edges is not seen."""
    count, channels, height, width = pixels.shape
    rows, columns = height // size, width // size
    whole = pixels[:, :, : rows * size, : columns * size].reshape(count, channels, rows, size, columns, size)
    return whole.transpose(0, 2, 4, 1, 3, 5).reshape(count, rows * columns, -1)


def siglip_weights(weights: Mapping[str, mx.array], channels: int) -> dict[str, mx.array]:
    """A tower's tensors under this network's names, without those of the pooling head."""
    tower = {name.removeprefix("vision_model."): value for name, value in weights.items()}
    return {
        name: value
        for name, value in flat_kernel(tower, "embeddings.patch_embedding", channels).items()
        if not name.startswith("head.") and not name.endswith(".position_ids")
    }
