"""How much memory a model needs, by the headers and JSON of its files alone. No MLX."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from runner.errors import ModelNotSupported
from runner.hardware import available_memory, device_memory
from runner.inspect.mode import ModelMode, detect_model_mode, mode_of
from runner.sources import ModelFiles, find
from runner.sources.required_files import indexed_bytes, weight_folders
from runner.units import GIB, MIB

# What a model is taken to need when its files do not say: 8 GiB.
UNREADABLE_VRAM = 8 * GIB

# On top of the weights. Text: activations and buffers, and a KV cache for this many tokens. Pictures: activations,
# of which the decoder's are the largest; this much for a megapixel with the 256 channels that decoders of real models
# have at full size, and in proportion for smaller ones.
TEXT_ALLOWANCE = 256 * MIB
TEXT_TOKENS = 4096
IMAGE_ALLOWANCE = 2 * GIB
SMALLEST_IMAGE_ALLOWANCE = 128 * MIB
_BYTES_A_PIXEL_AND_CHANNEL = IMAGE_ALLOWANCE // (1024 * 1024 * 256)

# The share of the memory that is left which weights may be unpacked into: caches and activations come on top.
LEFT_SHARE = 0.75


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a model will hold: its weights by component, and an allowance for the work itself."""

    components: Mapping[str, int]
    allowance: int

    @property
    def weights(self) -> int:
        """All weights held at once."""
        return sum(self.components.values())

    @property
    def total(self) -> int:
        """Everything held at once."""
        return self.weights + self.allowance

    @property
    def least(self) -> int:
        """With the text encoders dropped once the prompt is encoded, before the rest is loaded."""
        encoders = sum(size for name, size in self.components.items() if name.startswith("text_encoder"))
        return max(encoders, self.weights - encoders) + self.allowance


def estimate_memory(model: str | ModelFiles) -> MemoryEstimate:
    """What a model will take once it is loaded, from the sizes that its files declare; loads nothing.

    The allowance on top of the weights is 2 GiB for pictures (a megapixel; 128 MiB and more for models that were made
    for smaller pictures), and for text 256 MiB and the KV cache of 4,096 tokens at 16 bits. Raises ModelNotSupported when the files cannot be read.
    """
    files = find(model) if isinstance(model, str) else model
    mode = detect_model_mode(files).mode
    return MemoryEstimate(component_bytes(files, mode), allowance(files, mode))


def allowance(files: ModelFiles, mode: ModelMode) -> int:
    """What the work itself takes, as `estimate_memory` states it."""
    if mode is ModelMode.IMAGE:
        return _image_allowance(files.read_json("vae/config.json") or {})
    return TEXT_ALLOWANCE + TEXT_TOKENS * cache_bytes_a_token(files.read_json("config.json") or {})


def _image_allowance(vae: Mapping[str, Any]) -> int:
    """For one picture of the size that the autoencoder was made for; a config that does not say is a real model's."""
    channels = vae.get("decoder_block_out_channels") or vae.get("block_out_channels")
    side = _count(vae, "sample_size")
    if not side or not isinstance(channels, list) or len(channels) < 2:
        return IMAGE_ALLOWANCE
    # The last block begins with what the one below it left, made as large as the picture.
    widest = _count({"widest": channels[1]}, "widest")
    size = side * side * widest * _BYTES_A_PIXEL_AND_CHANNEL
    return min(max(size, SMALLEST_IMAGE_ALLOWANCE), IMAGE_ALLOWANCE) if size else IMAGE_ALLOWANCE


def component_bytes(files: ModelFiles, mode: ModelMode) -> dict[str, int]:
    """The bytes of the tensors that each component declares; components without weights are left out."""
    sizes = {
        name: sum(t.nbytes for t in files.tensors(name).values()) for name in weight_folders(files, mode)
    }
    return {name: size for name, size in sizes.items() if size}


def weights_bytes(files: ModelFiles) -> int | None:
    """The sum of the tensor bytes that a model's files declare, by their headers, or by an index where its shards cannot
    be read; None when nothing says."""
    try:
        return sum(_declared_bytes(files, name) for name in weight_folders(files, mode_of(files))) or None
    except ModelNotSupported:
        return None


def _declared_bytes(files: ModelFiles, component: str) -> int:
    try:
        return sum(tensor.nbytes for tensor in files.tensors(component).values())
    except ModelNotSupported:
        stated = indexed_bytes(files, component)
        if stated is None:
            raise
        return stated


def estimated_vram(files: ModelFiles) -> int:
    """What a scheduler should set aside for a model: its tensor bytes, or 8 GiB when they cannot be read."""
    return weights_bytes(files) or UNREADABLE_VRAM


def cache_bytes_a_token(config: Mapping[str, Any]) -> int:
    """The KV cache of one token at 16 bits; 0 for a config that does not say (a recurrent model, for one)."""
    text = config.get("text_config")
    stated = {**config, **text} if isinstance(text, dict) else config
    layers, heads = _count(stated, "num_hidden_layers"), _count(stated, "num_attention_heads")
    kept = _count(stated, "num_key_value_heads") or heads
    size = _count(stated, "head_dim") or (_count(stated, "hidden_size") // heads if heads else 0)
    return 2 * 2 * layers * kept * size


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and 0 < value < 10**7 else 0


def room_to_unpack(limit: int | None) -> int:
    """Bytes that quantized weights may take in float32: of what is left on this machine, and of `limit`, all that a
    gateway has for its models."""
    left = available_memory()
    sizes = [int(size * LEFT_SHARE) for size in (device_memory() if left is None else left,) if size]
    return min([*sizes, *([limit] if limit is not None else [])], default=0)
