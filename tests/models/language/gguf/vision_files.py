"""Toys that see as GGUF files: a text network with a projector beside it, as llama.cpp's converter writes them, or both in one
file, as Ollama's does."""

import copy
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tests import ROOT
from tests.gguf_files import Stored, stored, write_gguf
from tests.models.language.gguf import convert
from tests.models.language.gguf.ollama_names import (
    OLLAMA_ARCHITECTURES,
    in_ollama_s_words,
    ollama_tower,
)
from tests.models.language.gguf.vocabularies import CONTROL, byte_pairs
from tests.models.vision.vision_cases import Case, gemma3, mistral3, qwen3_vl, qwen_pixels, weights

Tensors = dict[str, NDArray[np.float32]]
Entries = dict[str, Any]

# Settings that a GGUF does not say are at their defaults here.
GGUF_CASES: dict[str, Case] = {
    "gemma3-gguf": Case(
        "Gemma3ForConditionalGeneration",
        gemma3({"num_hidden_layers": 7, "layer_types": [*["sliding_attention"] * 5, "full_attention", "sliding_attention"],
                "query_pre_attn_scalar": 12}, image_token_index=91),
        {"size": {"height": 24, "width": 24}}, "Gemma3ImageProcessorPil", seed=11,
    ),
    "mistral3-gguf": Case(
        "Mistral3ForConditionalGeneration",
        mistral3({"model_type": "ministral3", "rope_parameters": {
                      "rope_type": "yarn", "rope_theta": 1e4, "factor": 16.0, "original_max_position_embeddings": 32,
                      "beta_fast": 31.0, "beta_slow": 1.5, "mscale": 1.0, "mscale_all_dim": 1.0, "llama_4_scaling_beta": 0.1}},
                 {"hidden_act": "silu", "patch_size": 4}, spatial_merge_size=3, multimodal_projector_bias=True),
        {"size": {"longest_edge": 50}, "patch_size": {"height": 12, "width": 12}}, "PixtralImageProcessorPil", seed=12,
    ),
    "qwen3-vl-moe-gguf": Case(
        "Qwen3VLMoeForConditionalGeneration",
        qwen3_vl({"num_experts": 5, "num_experts_per_tok": 2, "moe_intermediate_size": 20, "decoder_sparse_step": 1, "mlp_only_layers": []}),
        qwen_pixels(image_mean=[0.5, 0.4, 0.3], image_std=[0.2, 0.3, 0.5]), "Qwen2VLImageProcessorPil", seed=13,
    ),
}  # fmt: skip

ARCHITECTURES = {
    "qwen2_5_vl": "qwen2vl", "qwen3_vl": "qwen3vl", "qwen3_vl_moe": "qwen3vlmoe", "gemma3": "gemma3", "idefics3": "llama",
    "mistral3": "llama", "ministral3": "mistral3",
}  # fmt: skip
TEXT_TYPES = {
    "qwen2_5_vl_text": "qwen2", "qwen3_vl_text": "qwen3", "qwen3_vl_moe_text": "qwen3_moe", "ministral3": "llama",
}  # fmt: skip
PROJECTORS = {
    "qwen2_5_vl": "qwen2.5vl_merger", "qwen3_vl": "qwen3vl_merger", "qwen3_vl_moe": "qwen3vl_merger", "gemma3": "gemma3",
    "idefics3": "idefics3", "mistral3": "pixtral",
}  # fmt: skip
TOKENS = {
    "qwen": ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>"),
    "gemma3": ("<image_soft_token>", "<start_of_image>", "<end_of_image>"),
    "idefics3": ("<image>", "<fake_token_around_image>", "<global-img>"),
    "mistral3": ("[IMG]", "[IMG_BREAK]", "[IMG_END]"),
}
# What comes before the names of the text network and of the tower in transformers' files.
TEXT = re.compile(r"model\.(language_model|text_model)\.")
BLOCKS = {"norm1": "ln1", "norm2": "ln2", "attn.proj": "attn_out", "attn.qkv": "attn_qkv",
          "layer_norm1": "ln1", "layer_norm2": "ln2", "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k",
          "self_attn.v_proj": "attn_v", "self_attn.out_proj": "attn_out", "mlp.fc1": "ffn_up", "mlp.fc2": "ffn_down",
          "mlp.linear_fc1": "ffn_up", "mlp.linear_fc2": "ffn_down", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up",
          "mlp.down_proj": "ffn_down", "attention_norm": "ln1", "ffn_norm": "ln2", "attention.q_proj": "attn_q",
          "attention.k_proj": "attn_k", "attention.v_proj": "attn_v", "attention.o_proj": "attn_out",
          "feed_forward.gate_proj": "ffn_gate", "feed_forward.up_proj": "ffn_up", "feed_forward.down_proj": "ffn_down",
          }  # fmt: skip
OUTSIDE = {
    "visual.patch_embed.proj": "v.patch_embd", "visual.pos_embed": "v.position_embd", "visual.merger.ln_q": "v.post_ln",
    "visual.merger.norm": "v.post_ln", "visual.merger.mlp.0": "mm.0", "visual.merger.mlp.2": "mm.2",
    "visual.merger.linear_fc1": "mm.0", "visual.merger.linear_fc2": "mm.2",
    "vision_tower.embeddings.patch_embedding": "v.patch_embd", "vision_model.embeddings.patch_embedding": "v.patch_embd",
    "vision_tower.embeddings.position_embedding": "v.position_embd",
    "vision_model.embeddings.position_embedding": "v.position_embd",
    "vision_tower.post_layernorm": "v.post_ln", "vision_model.post_layernorm": "v.post_ln",
    "multi_modal_projector.mm_soft_emb_norm": "mm.soft_emb_norm", "connector.modality_projection.proj": "mm.model.fc",
    "vision_tower.patch_conv": "v.patch_embd", "vision_tower.ln_pre": "v.pre_ln", "multi_modal_projector.norm": "mm.input_norm",
    "multi_modal_projector.linear_1": "mm.1", "multi_modal_projector.linear_2": "mm.2",
    "multi_modal_projector.patch_merger.merging_layer": "mm.patch_merger",
}  # fmt: skip
BLOCK = re.compile(
    r"(?:visual\.blocks|vision_\w+\.encoder\.layers|vision_tower\.transformer\.layers)\.(\d+)\.(.+)\.(weight|bias)"
)
DEEPSTACK = re.compile(r"visual\.deepstack_merger_list\.(\d+)\.(norm|linear_fc1|linear_fc2)\.(weight|bias)")


def described(name: str) -> dict[str, Any]:
    """Config, shapes and texts of a toy, as transformers has them."""
    file = ROOT / "tests" / "models" / "references" / "vision.json"
    return dict(json.loads(file.read_text())[name])


def tower_name(name: str, config: Mapping[str, Any]) -> str:
    """llama.cpp's name of a tensor of the tower or the projector."""
    name = name.removeprefix("model.")
    if name == "multi_modal_projector.mm_input_projection_weight":
        return "mm.input_projection.weight"
    if block := BLOCK.fullmatch(name):
        return f"v.blk.{block[1]}.{BLOCKS[block[2]]}.{block[3]}"
    if deep := DEEPSTACK.fullmatch(name):
        place = config["vision_config"]["deepstack_visual_indexes"][int(deep[1])]
        return f"v.deepstack.{place}.{deep[2].removeprefix('linear_')}.{deep[3]}"
    layer, _, kind = name.rpartition(".")
    return f"{OUTSIDE[layer]}.{kind}"


def split(state: Tensors) -> tuple[Tensors, Tensors]:
    """The tensors of the text network, under the names of one that sees nothing, and those of the tower."""
    text = {TEXT.sub("model.", name): value for name, value in state.items() if _is_text(name)}
    return text, {name: value for name, value in state.items() if not _is_text(name)}


def _is_text(name: str) -> bool:
    return TEXT.match(name) is not None or name.startswith("lm_head.")


def halves(value: NDArray[np.float32], heads: int) -> NDArray[np.float32]:
    """The rows of each head in pairs."""
    parts = value.reshape(heads, 2, value.shape[0] // heads // 2, *value.shape[1:])
    return parts.swapaxes(1, 2).reshape(value.shape)


def llama_cpp_tower(state: Tensors, config: Mapping[str, Any]) -> Tensors:
    found: Tensors = {}
    for name, value in state.items():
        key = tower_name(name, config)
        if name.endswith("patch_embed.proj.weight"):
            found |= {key: value[:, :, 0], f"{key}.1": value[:, :, 1]}
        elif ".attn_qkv." in key and config["model_type"] == "qwen2_5_vl":
            found |= {
                key.replace("qkv", part): rows for part, rows in zip("qkv", np.split(value, 3), strict=True)
            }
        elif config["model_type"] == "mistral3" and (".attn_q." in key or ".attn_k." in key):
            found[key] = halves(value, config["vision_config"]["num_attention_heads"])
        else:
            found[key] = value + 1 if key == "mm.soft_emb_norm.weight" else value
    if config["model_type"] == "mistral3":
        found["v.token_embd.img_break"] = np.ones(config["text_config"]["hidden_size"], np.float32)
    return found


def text_config(config: Mapping[str, Any]) -> SimpleNamespace:
    text = config["text_config"]
    tied = config["tie_word_embeddings"]
    shaped = {
        **text,
        "tie_word_embeddings": tied,
        "model_type": TEXT_TYPES.get(text["model_type"], text["model_type"]),
    }
    return SimpleNamespace(**shaped)


def text_metadata(config: Mapping[str, Any], architecture: str) -> Entries:
    text = text_config(config)
    entries = convert.metadata(text)
    own = entries.pop("general.architecture")
    if own == "gemma3":
        entries.pop("gemma3.attention.sliding_window_pattern")  # six in all files
    values = {key.removeprefix(f"{own}."): value for key, value in entries.items()}
    rope = text.rope_parameters
    if "mrope_section" in rope:
        values["rope.dimension_sections"] = [*rope["mrope_section"], 0]
    if "llama_4_scaling_beta" in rope:
        values |= {
            "attention.temperature_scale": rope["llama_4_scaling_beta"],
            "rope.scaling.yarn_beta_fast": rope["beta_fast"], "rope.scaling.yarn_beta_slow": rope["beta_slow"],
            "rope.scaling.yarn_log_multiplier": rope["mscale_all_dim"],
        }  # fmt: skip
    return {
        "general.architecture": architecture,
        **{f"{architecture}.{key}": value for key, value in values.items()},
    }


def vocabulary(config: Mapping[str, Any]) -> Entries:
    """With the tokens of pictures, where that of a row has the id that the configuration says."""
    names = next(tokens for family, tokens in TOKENS.items() if config["model_type"].startswith(family))
    size = config["text_config"]["vocab_size"]
    entries = byte_pairs(size, "qwen2")
    first = config.get("image_token_id", config.get("image_token_index"))
    place = min(first, size)
    for at, token in enumerate(names):
        id = place + at if place < size else size - at
        if id < size:
            entries["tokenizer.ggml.tokens"][id] = token
            entries["tokenizer.ggml.token_type"][id] = CONTROL
    return entries


def _sizes(config: Mapping[str, Any], processor: Mapping[str, Any]) -> Entries:
    vision = config["vision_config"]
    names = {"num_heads": "attention.head_count", "num_attention_heads": "attention.head_count", "depth": "block_count",
             "num_hidden_layers": "block_count", "hidden_size": "embedding_length", "intermediate_size": "feed_forward_length",
             "patch_size": "patch_size", "image_size": "image_size", "layer_norm_eps": "attention.layer_norm_epsilon"}  # fmt: skip
    entries = {f"vision.{key}": vision[name] for name, key in names.items() if name in vision}
    mean, std = processor.get("image_mean"), processor.get("image_std")
    return entries | ({"vision.image_mean": mean, "vision.image_std": std} if mean else {})


def projector_metadata(case: Case, config: Mapping[str, Any]) -> Entries:
    vision, family = config["vision_config"], config["model_type"]
    entries: Entries = {
        "projector_type": PROJECTORS[family], "has_vision_encoder": True,
        "vision.projection_dim": config["text_config"]["hidden_size"], **_sizes(config, case.processor),
    }  # fmt: skip
    if family.startswith("qwen"):
        entries |= {"use_silu" if family == "qwen2_5_vl" else "use_gelu": True,
                    "vision.image_min_pixels": case.processor["min_pixels"], "vision.image_max_pixels": case.processor["max_pixels"],
                    "vision.spatial_merge_size": vision["spatial_merge_size"]}  # fmt: skip
    if family == "qwen2_5_vl":
        entries |= {
            "vision.n_wa_pattern": vision["fullatt_block_indexes"][0] + 1,
            "vision.window_size": vision["window_size"],
        }
    elif family.startswith("qwen"):
        entries["vision.is_deepstack_layers"] = [
            at in vision["deepstack_visual_indexes"] for at in range(vision["depth"])
        ]
    elif family == "gemma3":
        side = vision["image_size"] // vision["patch_size"]
        entries["vision.projector.scale_factor"] = side // int(config["mm_tokens_per_image"] ** 0.5)
    elif family == "idefics3":
        entries |= {"vision.projector.scale_factor": config["scale_factor"],
                    "vision.preproc_image_size": case.processor["size"]["longest_edge"]}  # fmt: skip
    else:
        entries |= {"use_silu": vision["hidden_act"] == "silu", "vision.spatial_merge_size": config["spatial_merge_size"],
                    "vision.image_size": case.processor["size"]["longest_edge"]}  # fmt: skip
    return {"general.architecture": "clip", **{f"clip.{key}": value for key, value in entries.items()}}


def ollama_metadata(case: Case, config: Mapping[str, Any], architecture: str) -> Entries:
    vision, family = config["vision_config"], config["model_type"]
    sizes = _sizes(config, case.processor if family.startswith("qwen3") else {})
    entries: Entries = {f"{architecture}.{key}": value for key, value in sizes.items()}
    text = text_metadata(config, architecture)
    own = {
        "gemma3": {"mm.tokens_per_image": config.get("mm_tokens_per_image")},
        "mistral3": {"spatial_merge_size": config.get("spatial_merge_size"),
                     "vision.image_size": case.processor.get("size", {}).get("longest_edge"), "vision.rope.freq_base": 1e4},
        "qwen2_5_vl": {"vision.fullatt_block_indexes": vision.get("fullatt_block_indexes"), "vision.temporal_patch_size": 2,
                       "vision.window_size": vision.get("window_size"), "vision.spatial_merge_size": 2},
        "qwen3_vl": {"vision.deepstack_visual_indexes": vision.get("deepstack_visual_indexes"), "vision.temporal_patch_size": 2,
                     "vision.shortest_edge": case.processor.get("min_pixels"), "vision.longest_edge": case.processor.get("max_pixels"),
                     "vision.spatial_merge_size": 2},
    }[family.removesuffix("_moe")]  # fmt: skip
    entries |= {f"{architecture}.{key}": value for key, value in own.items()}
    if family.startswith("qwen"):
        del entries[f"{architecture}.vision.feed_forward_length"]
    return text | entries


def _stored(tensors: Tensors, kind: str) -> dict[str, Stored]:
    return {name: stored(value, kind if value.ndim > 1 else "F32") for name, value in tensors.items()}


def write_pair(folder: Path, case: Case, shown: Mapping[str, Any], kind: str = "F32", **changes: Any) -> Path:
    """The text network's file, with the projector's beside it. `changes`: of the projector's metadata; None removes one."""
    config = copy.deepcopy(shown["config"])
    text, tower = split(weights(shown["shapes"], case.seed))
    architecture = ARCHITECTURES.get(config["text_config"]["model_type"], ARCHITECTURES[config["model_type"]])
    path = write_gguf(
        folder / "toy.gguf",
        {**text_metadata(config, architecture), **vocabulary(config)},
        convert.tensors(text, text_config(config)),
    )
    entries = {**projector_metadata(case, config), **changes}
    entries = {key: value for key, value in entries.items() if value is not None}
    write_gguf(folder / "mmproj-toy.gguf", entries, _stored(llama_cpp_tower(tower, config), kind))
    return path


def write_whole(path: Path, case: Case, shown: Mapping[str, Any], kind: str = "F32") -> Path:
    """Both in one file."""
    config = copy.deepcopy(shown["config"])
    text, tower = split(weights(shown["shapes"], case.seed))
    architecture = OLLAMA_ARCHITECTURES[config["model_type"]]
    entries = in_ollama_s_words(ollama_metadata(case, config, architecture), architecture)
    tensors = convert.tensors(text, text_config(config)) | _stored(ollama_tower(tower, config), kind)
    return write_gguf(path, {**entries, **vocabulary(config)}, tensors)


WRITERS: Mapping[str, Callable[[Path, Case, Mapping[str, Any]], Path]] = {
    "llama.cpp": lambda folder, case, described: write_pair(folder, case, described),
    "ollama": lambda folder, case, described: write_whole(folder / "toy.gguf", case, described),
}
