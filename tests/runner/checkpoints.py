"""Toy checkpoints on the disk, written by hand so that a test can also write broken ones."""

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SIZES = {"F32": 4, "BF16": 2, "F16": 2, "U32": 4, "U8": 1}
Spec = Mapping[str, tuple[str, tuple[int, ...]]]

WEIGHTS: Spec = {"model.embed_tokens.weight": ("BF16", (16, 8)), "model.norm.weight": ("BF16", (8,))}


def safetensors(tensors: Spec, metadata: Mapping[str, str] | None = None) -> bytes:
    """A safetensors file of zeros."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + math.prod(shape) * SIZES[dtype]
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}
    raw = json.dumps(header).encode()
    return struct.pack("<Q", len(raw)) + raw + bytes(end)


def write(folder: Path, files: Mapping[str, Any]) -> Path:
    """Files into a folder: bytes as they are, anything else as JSON."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    return folder


def text_files(weights: Spec = WEIGHTS) -> dict[str, Any]:
    return {
        "config.json": {"model_type": "qwen3", "max_position_embeddings": 4096, "torch_dtype": "bfloat16"},
        "tokenizer.json": {"version": "1.0"},
        "tokenizer_config.json": {},
        "chat_template.jinja": b"{{ messages }}",
        "model.safetensors": safetensors(weights),
        "pytorch_model.bin": b"a pickle",
        "modeling_qwen3.py": b"print('remote code')",
        "README.md": b"a card",
    }


def image_files(class_name: str = "Flux2KleinPipeline") -> dict[str, Any]:
    return {
        "model_index.json": {
            "_class_name": class_name,
            "_diffusers_version": "0.37.0",
            "is_distilled": True,
            "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
            "text_encoder": ["transformers", "Qwen3ForCausalLM"],
            "tokenizer": ["transformers", "Qwen2TokenizerFast"],
            "transformer": ["diffusers", "Flux2Transformer2DModel"],
            "vae": ["diffusers", "AutoencoderKLFlux2"],
            "image_encoder": [None, None],
        },
        "scheduler/scheduler_config.json": {"shift": 3.0},
        "text_encoder/config.json": {"model_type": "qwen3"},
        "text_encoder/model.safetensors": safetensors(WEIGHTS),
        "tokenizer/tokenizer.json": {"version": "1.0"},
        "tokenizer/merges.txt": b"a b",
        "transformer/config.json": {"num_layers": 1},
        "transformer/diffusion_pytorch_model.safetensors": safetensors({"proj.weight": ("BF16", (4, 4))}),
        "transformer/diffusion_pytorch_model.fp16.safetensors": safetensors({"proj.weight": ("F16", (4, 4))}),
        "vae/config.json": {"latent_channels": 4},
        "vae/diffusion_pytorch_model.safetensors": safetensors({"conv.weight": ("F32", (2, 2))}),
        "flux-2-klein.safetensors": safetensors({"everything": ("BF16", (64, 64))}),
        "assets/picture.png": b"not for running",
    }
