"""Tiny encoders as transformers saves them, with settings away from the defaults. Their weights follow from their names, so
that only configs, shapes and what transformers computes are stored."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save_file

from models.files import LocalModel, Shard

REFERENCES = Path(__file__).parent / "references"
BERT = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 48,
    "max_position_embeddings": 40, "type_vocab_size": 3, "hidden_act": "gelu_new", "layer_norm_eps": 1e-3, "pad_token_id": 2,
}  # fmt: skip
MODERN = {
    "vocab_size": 64, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "intermediate_size": 40,
    "max_position_embeddings": 64, "hidden_activation": "silu", "norm_eps": 1e-3, "norm_bias": True, "attention_bias": True,
    "mlp_bias": True, "local_attention": 6, "pad_token_id": 2, "bos_token_id": 0, "eos_token_id": 1, "cls_token_id": 0,
    "sep_token_id": 1, "layer_types": ["sliding_attention", "full_attention", "sliding_attention", "sliding_attention"],
    "rope_parameters": {
        "full_attention": {"rope_type": "default", "rope_theta": 700.0},
        "sliding_attention": {"rope_type": "default", "rope_theta": 50.0},
    },
}  # fmt: skip
ONE = {"num_labels": 1}
# The name of a case: a class of transformers, and its configuration.
CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "bert": ("BertModel", BERT),
    "roberta": ("RobertaModel", {**BERT, "hidden_act": "gelu", "type_vocab_size": 1, "pad_token_id": 1}),
    "xlm-roberta": ("XLMRobertaModel", {**BERT, "hidden_act": "relu", "type_vocab_size": 1}),
    "nomic_bert": ("NomicBertModel", {
        **BERT, "hidden_act": "gelu", "head_dim": 16, "rope_parameters": {"rope_type": "default", "rope_theta": 300.0},
    }),
    "modernbert": ("ModernBertModel", MODERN),
    "bert-scores": ("BertForSequenceClassification", {**BERT, **ONE}),
    "xlm-roberta-scores": ("XLMRobertaForSequenceClassification", {**BERT, **ONE, "type_vocab_size": 1}),
    "modernbert-scores": ("ModernBertForSequenceClassification", {
        **MODERN, **ONE, "classifier_pooling": "mean", "classifier_bias": True, "classifier_activation": "relu",
    }),
}  # fmt: skip
EMBEDDERS = tuple(name for name in CASES if not name.endswith("-scores"))
# One has the padding token of some models inside.
TEXTS = [[5], [9, 2, 8, 1, 7, 6], list(range(10, 47))]


def weight(name: str, shape: tuple[int, ...], seed: int = 0) -> NDArray[np.float32]:
    rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
    noise = rng.standard_normal(shape, np.float32) * np.float32(0.25)
    return noise + np.float32(1) if "norm" in name.lower() and name.endswith("weight") else noise


def stored(name: str, folder: Path) -> Path:
    """The checkpoint of a case, whose outputs are stored."""
    case = json.loads((REFERENCES / "encoders.json").read_text())[name]
    return write(folder, case["config"], {key: tuple(shape) for key, shape in case["shapes"].items()})


def write(folder: Path, config: dict[str, Any], shapes: dict[str, tuple[int, ...]], seed: int = 0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    weights = {name: weight(name, shape, seed) for name, shape in shapes.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def words(folder: Path, size: int = 64) -> Path:
    """A vocabulary for a checkpoint: special tokens, and letters."""
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    letters = [chr(ord("a") + at) for at in range(26)] + [f"##{chr(ord('a') + at)}" for at in range(26)]
    names = [*special, *letters, *(f"[unused{at}]" for at in range(size))][:size]
    (folder / "vocab.txt").write_text("\n".join(names) + "\n")
    return folder


def local(folder: Path) -> LocalModel:
    return LocalModel(str(folder), folder, lambda component: (Shard(folder / "model.safetensors"),))
