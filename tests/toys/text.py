"""A random language model in the Hugging Face layout, small enough to make in a second.

    uv run python -m tests.toys out/toy                          a Qwen3 of about a megabyte
    uv run python -m tests.toys out/toy --family gemma3 --quantize 4
    uv run python -m tests.toys out/tiny --size tiny             large enough to measure speed on

It writes nonsense, but through the same files, networks and tokenizers as a real one.
"""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_unflatten
from mlx_lm import utils as mlx_lm_utils

from tests.toys.families import COMMON, FAMILIES, Config, Family
from tests.toys.tokenizers import STYLES, Style, make_tokenizer

# The projections that write into the residual stream.
OUTPUTS = ("o_proj", "out_proj", "down_proj", "w2")
LAST_NORMS = ("model.norm.weight", "model.embedding_norm.weight")
# Sharp attention and loud feed-forward layers: with less, random text soon goes round in a short circle.
GAINS = {
    **dict.fromkeys(("embed_tokens", "lm_head", "down_proj", "w2"), 3.0),
    **dict.fromkeys(("q_proj", "k_proj", "q_b_proj", "q_norm", "k_norm", "q_layernorm", "k_layernorm"), 2.0),
}


def make_text_model(
    folder: Path | str,
    family: str = "qwen3",
    *,
    vocab_size: int = 640,
    bits: int | None = None,
    seed: int = 0,
    end_bias: float | None = None,
    **dims: Any,
) -> Path:
    """Write a checkpoint into `folder` and return it.

    `dims` replace keys of its config.json. Its text never ends, so that a length can be relied on, unless `end_bias`
    (about 24, gemma3 5: after some tens of tokens) raises the logits of its end-of-text tokens.
    """
    if family not in FAMILIES:
        raise ValueError(f"no toy of family {family!r}; there are {', '.join(FAMILIES)}")
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    style = STYLES[FAMILIES[family].style]
    tokenizer = make_tokenizer(style, vocab_size)
    # Thoughts and tool calls would be odd at random, too: servers hold them back.
    ids = {token: tokenizer.token_to_id(token) for token in (*style.specials, *style.words)}
    config = _config(FAMILIES[family], vocab_size, dims) | {
        "eos_token_id": ids[style.ends[0]],
        "bos_token_id": ids[style.bos] if style.bos else None,
    }
    biases = dict.fromkeys(ids.values(), -40.0)
    if end_bias is not None:
        biases |= {ids[token]: end_bias for token in style.ends}
    _write_weights(folder, FAMILIES[family], config, biases, bits, seed)
    tokenizer.save(str(folder / "tokenizer.json"))
    _write_json(folder / "tokenizer_config.json", _tokenizer_config(style, config))
    generation = {
        "eos_token_id": [ids[token] for token in style.ends],
        "bos_token_id": config["bos_token_id"],
    }
    _write_json(folder / "generation_config.json", generation)
    return folder


def _config(family: Family, vocab_size: int, dims: Config) -> Config:
    config = {**COMMON, **family.config, "vocab_size": vocab_size, **dims}
    return config | family.layered(config["num_hidden_layers"])


def _tokenizer_config(style: Style, config: Config) -> Config:
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": config["max_position_embeddings"],
        "bos_token": style.bos,
        "eos_token": style.ends[0],
        "unk_token": "<unk>" if "<unk>" in style.specials else None,
        "pad_token": style.specials[0] if style.sentencepiece else "<|endoftext|>",
        "clean_up_tokenization_spaces": False,
        "chat_template": style.template,
    }


def _write_weights(
    folder: Path, family: Family, config: Config, biases: dict[int, float], bits: int | None, seed: int
) -> None:
    model_class, args_class = mlx_lm_utils._get_classes(config)
    model = model_class(args_class.from_dict(dict(config)))
    if config["tie_word_embeddings"] and "lm_head" in model:
        model.pop("lm_head")
    weights = _random_weights(model, family, biases, np.random.default_rng(seed))
    model.update(tree_unflatten(list(weights.items())))
    if bits is not None:
        config = config | {"quantization": {"group_size": 32, "bits": bits, "mode": "affine"}}
        nn.quantize(model, group_size=32, bits=bits, class_predicate=_quantizable)
    stored = dict(tree_flatten(model.parameters()))
    mx.save_safetensors(str(folder / "model.safetensors"), stored, metadata={"format": "mlx"})
    _write_json(folder / "config.json", config)


def _quantizable(path: str, module: nn.Module) -> bool:
    return hasattr(module, "to_quantized") and module.weight.shape[-1] % 32 == 0


def _random_weights(
    model: nn.Module, family: Family, biases: dict[int, float], chance: np.random.Generator
) -> dict[str, mx.array]:
    """Normal noise, scaled by fan-in and GAINS.

    Channel 0 of the residual stream holds one constant in every layer, and the head reads it as a bias: that is how
    special tokens are made to come never, or rarely.
    """
    weights = {}
    for name, start in tree_flatten(model.parameters()):
        noise = chance.standard_normal(start.shape, dtype=np.float32)
        module = name.split(".")[-2]
        if start.ndim == 1:
            value = np.array(start.astype(mx.float32)) + 0.1 * noise
        else:
            value = noise / np.sqrt(np.prod(start.shape[1:] if "conv" in module else start.shape[-1:]))
        value *= GAINS.get(module, 1.0)
        if module == "embed_tokens":
            value[:, 0] = 1.0
            value /= family.softness
        elif name in LAST_NORMS:
            value *= family.softness
        elif module == "lm_head":
            value[:, 0] = 0.0
        elif module in OUTPUTS:
            value[..., 0, :] = 0.0
        weights[name] = value
    head = weights.get("lm_head.weight")
    if head is None:
        head = weights["model.embed_tokens.weight"]
    for token, bias in biases.items():
        head[token] = 0.0
        head[token, 0] = bias
    return {name: mx.array(value) for name, value in weights.items()}


def _write_json(path: Path, value: Config) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
