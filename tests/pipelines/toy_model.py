"""What a toy picture model is: its components' classes and configs, its schedule, its tokenizers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Config = dict[str, Any]

STATIC = {"num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": False}
DYNAMIC = {
    "num_train_timesteps": 1000, "shift": 3.0, "use_dynamic_shifting": True, "base_shift": 0.5, "max_shift": 1.15,
    "base_image_seq_len": 256, "max_image_seq_len": 4096, "time_shift_type": "exponential",
}  # fmt: skip


@dataclass(frozen=True)
class Part:
    """One component: the library and class that the reference has for it, and its config."""

    library: str
    name: str
    config: Config


@dataclass(frozen=True)
class Toy:
    """A whole model. Its tokenizers are stored, as training one does not give the same twice."""

    pipeline: str
    parts: Mapping[str, Part]
    scheduler: Config
    tokenizers: Mapping[str, str]
    index: Config = field(default_factory=dict)
    processor: Config | None = None  # of pictures that the text encoder sees
    modular: bool = False  # saved by a modular pipeline


def qwen3(layers: int, hidden: int, heads: int, shared: int, **more: Any) -> Part:
    return Part("transformers", "Qwen3ForCausalLM", {
        "model_type": "qwen3", "vocab_size": 420, "hidden_size": hidden, "intermediate_size": 2 * hidden + 6,
        "num_hidden_layers": layers, "num_attention_heads": heads, "num_key_value_heads": shared, "head_dim": 14,
        "max_position_embeddings": 2048, "rms_norm_eps": 1e-6, "rope_theta": 5000.0, "tie_word_embeddings": False, **more,
    })  # fmt: skip


def vae(name: str, channels: tuple[int, ...], latents: int, **more: Any) -> Part:
    blocks = len(channels)
    return Part("diffusers", name, {
        "block_out_channels": list(channels), "latent_channels": latents, "norm_num_groups": 3, "in_channels": 3,
        "out_channels": 3, "layers_per_block": 1, "sample_size": 64,
        "down_block_types": ["DownEncoderBlock2D"] * blocks, "up_block_types": ["UpDecoderBlock2D"] * blocks, **more,
    })  # fmt: skip
