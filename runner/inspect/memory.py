"""How much memory a model holds once it is loaded, by the headers and JSON of its files alone. No MLX."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from models.checkpoint.quantization_formats import FORMATS
from models.checkpoint.safetensors import TensorInfo
from models.encoders.architectures import is_encoder
from models.vision.working_memory import TowerWork
from runner.errors import ModelNotSupported
from runner.inspect.mode import ModelMode, detect_model_mode, mode_of
from runner.inspect.sight import sees_pictures
from runner.inspect.tensor_summary import has_packed, unpacked_bytes
from runner.sources import ModelFiles, find
from runner.sources.required_files import indexed_bytes, weight_folders
from runner.units import GIB, MIB

# Assumed for a model whose files do not say.
UNREADABLE_VRAM = 8 * GIB

# On top of the weights. Text: activations and buffers, and, except for encoders, a KV cache for this many tokens. Pictures: activations,
# of which the decoder's are the largest; this much for a megapixel with the 256 channels that decoders of real models
# have at full size, and in proportion for smaller ones.
TEXT_ALLOWANCE = 256 * MIB
TEXT_TOKENS = 4096
IMAGE_ALLOWANCE = 2 * GIB
SMALLEST_IMAGE_ALLOWANCE = 128 * MIB
_BYTES_PER_PIXEL_AND_CHANNEL = IMAGE_ALLOWANCE // (1024 * 1024 * 256)

_HALF = ("F16", "BF16")
_QUANTIZABLE = ("F32", *_HALF)
# Words in the names of layers that every device of a tensor-parallel model holds whole.
_WHOLE = ("embed", "lm_head")


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes that a model will hold: its weights by component, and an allowance for the work itself."""

    components: Mapping[str, int]
    allowance: int

    @property
    def weights(self) -> int:
        return sum(self.components.values())

    @property
    def resident(self) -> int:
        """Everything held at once."""
        return self.weights + self.allowance

    @property
    def staged(self) -> int:
        """With the text encoders dropped once the prompt is encoded, before the rest is loaded."""
        encoders = sum(size for name, size in self.components.items() if name.startswith("text_encoder"))
        return max(encoders, self.weights - encoders) + self.allowance


def estimate_memory(
    model: str | ModelFiles,
    mode: ModelMode | None = None,
    *,
    float32: bool = False,
    quantize: str | None = None,
    unpacked: bool = False,
    ranks: int = 1,
) -> MemoryEstimate:
    """What a model will hold, from the sizes that its files declare; loads nothing.

    `float32` widens half precision, `quantize` names a format for the large layers of a picture model, `unpacked` holds
    quantized layers in float32, and `ranks` devices share a language model.

    The allowance on top of the weights is 2 GiB for pictures (a megapixel; 128 MiB and more for models made for smaller
    pictures), and for text 256 MiB, the KV cache of 4,096 tokens at 16 bits, and, if the model sees, the work of its tower on
    a picture of a megapixel (or of the size that all are brought to). Raises ModelNotSupported when the files
    cannot be read.
    """
    files = find(model) if isinstance(model, str) else model
    mode = mode or detect_model_mode(files).mode
    sizes = {}
    for name in weight_folders(files, mode):
        tensors = files.tensors(name)
        if unpacked:
            sizes[name] = unpacked_bytes(tensors, quantization(files, name))
        else:
            sizes[name] = _loaded_bytes(tensors, float32, None if name == "vae" else quantize, ranks)
    wide = float32 or unpacked
    return MemoryEstimate({name: size for name, size in sizes.items() if size}, allowance(files, mode, wide))


def _loaded_bytes(tensors: Mapping[str, TensorInfo], float32: bool, quantize: str | None, ranks: int) -> int:
    total = 0.0
    for name, info in tensors.items():
        if quantize and info.dtype in _QUANTIZABLE and len(info.shape) == 2 and "embed" not in name:
            size = math.prod(info.shape) * FORMATS[quantize].stored_bits / 8
        else:
            size = info.nbytes * (2 if float32 and info.dtype in _HALF else 1)
        is_split = ranks > 1 and not any(word in name for word in _WHOLE)
        total += size // ranks if is_split else size
    return round(total)


def is_quantized(files: ModelFiles, mode: ModelMode) -> bool:
    """Whether a model's files hold quantized layers."""
    return any(has_packed(files.tensors(name)) for name in weight_folders(files, mode))


def quantization(files: ModelFiles, component: str) -> Mapping[str, Any] | None:
    """What a component's config.json says of its quantization, as MLX writes it."""
    config = files.read_json(f"{component}/config.json" if component else "config.json") or {}
    entry = config.get("quantization")
    return entry if isinstance(entry, dict) else None


def allowance(files: ModelFiles, mode: ModelMode, float32: bool = False) -> int:
    """Memory for the work itself, as `estimate_memory` describes it."""
    if mode is ModelMode.IMAGE:
        return _image_allowance(files.read_json("vae/config.json") or {})
    config = files.read_json("config.json") or {}
    if is_encoder(config):
        return TEXT_ALLOWANCE
    work = TowerWork.of(config) if sees_pictures(files) else None
    looking = work.bytes(work.pixels, 4 if float32 else 2) if work is not None else 0
    return TEXT_ALLOWANCE + TEXT_TOKENS * cache_bytes_per_token(config) + looking


def _image_allowance(vae: Mapping[str, Any]) -> int:
    """For one picture of the size that the autoencoder was made for, which the configs of real models leave out."""
    channels = vae.get("decoder_block_out_channels") or vae.get("block_out_channels")
    side = _count(vae, "sample_size")
    if not side or not isinstance(channels, list) or len(channels) < 2:
        return IMAGE_ALLOWANCE
    # The last block starts with the channels of the one before it, at the size of the picture.
    widest = _count({"widest": channels[1]}, "widest")
    size = side * side * widest * _BYTES_PER_PIXEL_AND_CHANNEL
    return min(max(size, SMALLEST_IMAGE_ALLOWANCE), IMAGE_ALLOWANCE) if size else IMAGE_ALLOWANCE


def estimated_vram(files: ModelFiles) -> int:
    """What a scheduler should set aside for a model: its tensor bytes, or 8 GiB when they cannot be read."""
    return weights_bytes(files) or UNREADABLE_VRAM


def weights_bytes(files: ModelFiles) -> int | None:
    """The sum of the tensor bytes that a model's files declare, by their headers, or by an index where its shards cannot
    be read; None without either."""
    try:
        return sum(_declared_bytes(files, name) for name in weight_folders(files, mode_of(files))) or None
    except ModelNotSupported:
        return None


def _declared_bytes(files: ModelFiles, component: str) -> int:
    try:
        return sum(tensor.nbytes for tensor in files.tensors(component).values())
    except ModelNotSupported:
        size = indexed_bytes(files, component)
        if size is None:
            raise
        return size


def cache_bytes_per_token(config: Mapping[str, Any]) -> int:
    """The KV cache of one token at 16 bits; 0 for a config without its numbers (a recurrent model's, for one)."""
    text = config.get("text_config")
    merged = {**config, **text} if isinstance(text, dict) else config
    layers, heads = _count(merged, "num_hidden_layers"), _count(merged, "num_attention_heads")
    kv_heads = _count(merged, "num_key_value_heads") or heads
    size = _count(merged, "head_dim") or (_count(merged, "hidden_size") // heads if heads else 0)
    return 2 * 2 * layers * kv_heads * size


def _count(config: Mapping[str, Any], key: str) -> int:
    value = config.get(key)
    return value if type(value) is int and 0 < value < 10**7 else 0
