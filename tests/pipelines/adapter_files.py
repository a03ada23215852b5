"""Random adapters of the toys in the formats that are found, of ranks that differ by layer.

A format is a list of layers, each under its name in the file with the checkpoint's layers that it consists of, and how its
tensors are called. Values depend on names alone.
"""

import math
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import mlx.core as mx
import numpy as np

from pipelines.base import AdapterChoice, ImageRequest
from tests.pipelines.toys import shapes

Tensors = dict[str, np.ndarray]
PARTS = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
}
FLUX_DOUBLE = {
    **PARTS,
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
}
FLUX_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
KLEIN_DOUBLE = {
    **PARTS,
    "img_mlp.0": ("ff.linear_in",),
    "img_mlp.2": ("ff.linear_out",),
    "txt_mlp.0": ("ff_context.linear_in",),
    "txt_mlp.2": ("ff_context.linear_out",),
}
KLEIN_SINGLE = {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)}
XLABS_DOUBLE = {
    "processor.qkv_lora1": PARTS["img_attn.qkv"],
    "processor.qkv_lora2": PARTS["txt_attn.qkv"],
    "processor.proj_lora1": PARTS["img_attn.proj"],
    "processor.proj_lora2": PARTS["txt_attn.proj"],
}
XLABS_SINGLE = {"processor.qkv_lora": FLUX_SINGLE["linear1"][:3], "processor.proj_lora": ("proj_out",)}
KLEIN_ENDS = {
    "img_in": ("x_embedder",),
    "txt_in": ("context_embedder",),
    "time_in.in_layer": ("time_guidance_embed.timestep_embedder.linear_1",),
    "final_layer.linear": ("proj_out",),
    "single_stream_modulation.lin": ("single_stream_modulation.linear",),
}
Z_BLOCK = ("attention.to_q", "attention.to_k", "attention.to_v", "attention.to_out.0", "feed_forward.w1", "feed_forward.w2",
           "feed_forward.w3", "adaLN_modulation.0")  # fmt: skip

Layers = Mapping[str, tuple[str, ...]]


def layers_of(toy: str, part: str = "transformer", within: str = "") -> dict[str, tuple[str, ...]]:
    """The checkpoint's own linear layers, but embeddings."""
    return {
        key.removesuffix(".weight"): (key.removesuffix(".weight"),)
        for key, shape in shapes(toy)[part].items()
        if key.endswith(".weight") and len(shape) == 2 and within in key and "embeddings" not in key
    }


def blocks(double: Layers, single: Layers) -> dict[str, tuple[str, ...]]:
    """Those of a toy with one double block and two single ones, under the original repository's names."""
    one = {f"double_blocks.0.{name}": _inside("transformer_blocks.0", of) for name, of in double.items()}
    for number in range(2):
        inside = f"single_transformer_blocks.{number}"
        one |= {f"single_blocks.{number}.{name}": _inside(inside, of) for name, of in single.items()}
    return one


def _inside(block: str, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(f"{block}.{name}" for name in names)


def size(toy: str, layers: tuple[str, ...], part: str = "transformer") -> tuple[int, int]:
    """Outputs and inputs of checkpoint layers that are one in the file."""
    found = [shapes(toy)[part][f"{layer}.weight"] for layer in layers]
    return sum(shape[0] for shape in found), found[0][1]


def number(name: str, least: int, most: int) -> int:
    return least + zlib.crc32(name.encode()) % (most - least + 1)


def draw(name: str, shape: tuple[int, ...], scale: float) -> np.ndarray:
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    return (scale * noise).astype(np.float32)


def lora(
    name: str, outputs: int, inputs: int, down: str, up: str, alpha: bool, rank: int | None = None
) -> Tensors:
    rank = rank or number(name, 1, 5)
    tensors = {
        f"{name}.{down}": draw(name + "down", (rank, inputs), inputs**-0.5),
        f"{name}.{up}": draw(name + "up", (outputs, rank), 0.7 * rank**-0.5),
    }
    return tensors | ({f"{name}.alpha": np.float32(number(name, 1, 3) * 0.9)} if alpha else {})


def lokr(name: str, outputs: int, inputs: int, factor: int = 2) -> Tensors:
    """The first factor whole, the second as two matrices where it is wide."""
    rows, columns = outputs // factor, inputs // factor
    tensors = {f"{name}.lokr_w1": draw(name + "w1", (factor, factor), 0.7)}
    rank = 2
    if min(rows, columns) > 4 and not name.endswith(("to_k", "to_out", "linear2")):
        tensors[f"{name}.lokr_w2_a"] = draw(name + "w2a", (rows, rank), 0.8)
        tensors[f"{name}.lokr_w2_b"] = draw(name + "w2b", (rank, columns), columns**-0.5)
        tensors[f"{name}.alpha"] = np.float32(1.3)
    else:
        tensors[f"{name}.lokr_w2"] = draw(name + "w2", (rows, columns), columns**-0.5)
    return tensors


def loha(name: str, outputs: int, inputs: int) -> Tensors:
    rank = number(name, 2, 7)
    tensors: Tensors = {f"{name}.alpha": np.float32(1.5)}
    for factor in (1, 2):
        tensors[f"{name}.hada_w{factor}_a"] = draw(f"{name}{factor}a", (outputs, rank), rank**-0.5)
        tensors[f"{name}.hada_w{factor}_b"] = draw(
            f"{name}{factor}b", (rank, inputs), 1.3 * math.sqrt(inputs) ** -0.5
        )
    return tensors


@dataclass(frozen=True)
class Format:
    """`make` writes the tensors of a layer, called as in the file, with its outputs and inputs."""

    toy: str
    layers: Layers
    make: Callable[[str, int, int], Tensors]
    name: Callable[[str], str] = lambda layer: layer
    encoder: Layers | None = None  # the first text encoder's layers
    encoder_name: Callable[[str], str] = lambda layer: f"text_encoder.{layer}"

    def tensors(self) -> Tensors:
        made: Tensors = {}
        for layer, parts in self.layers.items():
            made |= self.make(self.name(layer), *size(self.toy, parts))
        for layer, parts in (self.encoder or {}).items():
            made |= self.make(self.encoder_name(layer), *size(self.toy, parts, "text_encoder"))
        return made

    def write(self, path: Path, metadata: dict[str, str] | None = None) -> Path:
        mx.save_safetensors(
            str(path), {key: mx.array(value) for key, value in self.tensors().items()}, metadata or {}
        )
        return path


def peft(name: str, outputs: int, inputs: int) -> Tensors:
    return lora(name, outputs, inputs, "lora_A.weight", "lora_B.weight", alpha=False)


def peft_alpha(name: str, outputs: int, inputs: int) -> Tensors:
    return lora(name, outputs, inputs, "lora_A.weight", "lora_B.weight", alpha=True)


def kohya(name: str, outputs: int, inputs: int) -> Tensors:
    return lora(name, outputs, inputs, "lora_down.weight", "lora_up.weight", alpha=True)


def xlabs(name: str, outputs: int, inputs: int) -> Tensors:
    return lora(name, outputs, inputs, "down.weight", "up.weight", alpha=False)


def dotted(name: str, outputs: int, inputs: int) -> Tensors:
    return lora(name, outputs, inputs, "lora.down.weight", "lora.up.weight", alpha=True)


def underscored(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer.replace(".", "_")


def prefixed(prefix: str) -> Callable[[str], str]:
    return lambda layer: prefix + layer


FLUX, KLEIN, Z_IMAGE = "flux schnell", "klein", "z-image-turbo"
CLIP = layers_of(FLUX, "text_encoder")
MIXTURE = {
    name: of
    for name, of in layers_of(FLUX).items()
    if ".attn.to_" in name
    or ".attn.add_" in name
    or ".attn.to_add_out" in name
    or name in ("x_embedder", "context_embedder")
}
Z_LAYERS = {
    f"{block}.0.{name}": (f"{block}.0.{name}",)
    for block in ("layers", "noise_refiner", "context_refiner")
    for name in Z_BLOCK
    if not (block == "context_refiner" and name.startswith("adaLN"))
}
Z_FUSED = {
    f"layers.{index}.attention.{name}": tuple(f"layers.{index}.attention.{part}" for part in of)
    for index in range(2)
    for name, of in (("qkv", ("to_q", "to_k", "to_v")), ("out", ("to_out.0",)))
}

FORMATS = {
    "flux, diffusers": Format(FLUX, layers_of(FLUX), peft, prefixed("transformer."), CLIP),
    "flux, diffusers with alphas": Format(FLUX, layers_of(FLUX, within="blocks"), peft_alpha, prefixed("transformer.")),
    "flux, kohya": Format(
        FLUX, blocks(FLUX_DOUBLE, FLUX_SINGLE), kohya, underscored("lora_unet_"), CLIP, underscored("lora_te1_text_model_")
    ),
    "flux, diffusion_model": Format(FLUX, blocks(FLUX_DOUBLE, FLUX_SINGLE), kohya, prefixed("diffusion_model.")),
    "flux, lora_transformer": Format(FLUX, MIXTURE, kohya, underscored("lora_transformer_")),
    "flux, XLabs": Format(FLUX, blocks(XLABS_DOUBLE, XLABS_SINGLE), xlabs),
    "flux, fal": Format(
        FLUX, {**blocks(FLUX_DOUBLE, FLUX_SINGLE), "final_layer.linear": ("proj_out",)}, peft, prefixed("base_model.model.")
    ),
    "klein, diffusers": Format(KLEIN, layers_of(KLEIN), peft, prefixed("transformer.")),
    "klein, kohya": Format(KLEIN, blocks(KLEIN_DOUBLE, KLEIN_SINGLE), kohya, underscored("lora_unet_")),
    "klein, ai-toolkit": Format(
        KLEIN, {**blocks(KLEIN_DOUBLE, KLEIN_SINGLE), **KLEIN_ENDS}, peft, prefixed("diffusion_model.")
    ),
    "klein, PEFT": Format(KLEIN, blocks(KLEIN_DOUBLE, KLEIN_SINGLE), peft, prefixed("base_model.model.")),
    "klein, expanded": Format(KLEIN, layers_of(KLEIN, within="blocks"), peft, prefixed("diffusion_model.")),
    "klein, LoKr": Format(KLEIN, blocks(KLEIN_DOUBLE, KLEIN_SINGLE), lokr, prefixed("diffusion_model.")),
    "klein, LoKr of LyCORIS": Format(KLEIN, layers_of(KLEIN, within="blocks"), lokr, underscored("lycoris_")),
    "z-image, diffusers": Format(Z_IMAGE, layers_of(Z_IMAGE, within=".0."), peft, prefixed("transformer.")),
    "z-image, diffusion_model": Format(Z_IMAGE, Z_LAYERS, peft_alpha, prefixed("diffusion_model.")),
    "z-image, musubi": Format(Z_IMAGE, Z_LAYERS, kohya, underscored("lora_unet_")),
    "z-image, fused": Format(Z_IMAGE, Z_FUSED, dotted),
    "z-image, LoKr": Format(Z_IMAGE, Z_LAYERS, lokr, prefixed("diffusion_model.")),
}  # fmt: skip

REQUESTS = {
    FLUX: ImageRequest("l'aube", 7, width=48, height=32, steps=2),
    KLEIN: ImageRequest("a red circle", 7, width=48, height=32, steps=2),
    Z_IMAGE: ImageRequest("a red circle", 7, width=48, height=32, steps=2),
}
# Formats of one model that are used together, and their scales.
CASES: dict[str, dict[str, float]] = {
    **{name: {name: 0.8} for name in FORMATS},
    "flux, two": {"flux, kohya": 0.6, "flux, XLabs": -0.4},
    "klein, two": {"klein, ai-toolkit": 0.7, "klein, diffusers": 0.5},
    "z-image, two": {"z-image, musubi": 1.2, "z-image, diffusers": -0.3},
}


def toy_of(case: Mapping[str, float]) -> str:
    return FORMATS[next(iter(case))].toy


def choices(case: Mapping[str, float], folder: Path) -> tuple[AdapterChoice, ...]:
    """The adapters of a case, written to a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    return tuple(
        AdapterChoice(name, FORMATS[name].write(folder / f"{name}.safetensors"), scale)
        for name, scale in case.items()
    )
