"""A checkpoint's files to an encoder: network with weights, tokenizer, limits."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeAlias

import mlx.core as mx

from models.checkpoint.weights import evaluate, load_tensors, read_shards
from models.config import Config, ConfigError, read_json
from models.encoders.architectures import (
    MODERNBERT,
    NOMIC,
    ROBERTA,
    is_classifier,
    max_context,
    why_unsupported,
)
from models.encoders.bert import Bert, BertConfig, Roberta
from models.encoders.classifiers import BertClassifier, ModernBertClassifier, RobertaClassifier
from models.encoders.modernbert import ModernBert, ModernBertConfig
from models.encoders.nomic_bert import NomicBert, NomicBertConfig
from models.files import LocalModel
from models.tokenizers.encoder import EncoderTokenizer

Network: TypeAlias = Bert | NomicBert | ModernBert
HALVES = (mx.float16, mx.bfloat16)
NETWORKS: Mapping[str, tuple[type[Config], Callable[[Any], Network]]] = {
    "bert": (BertConfig, Bert),
    **dict.fromkeys(ROBERTA, (BertConfig, Roberta)),
    **dict.fromkeys(NOMIC, (NomicBertConfig, NomicBert)),
    **dict.fromkeys(MODERNBERT, (ModernBertConfig, ModernBert)),
}
CLASSIFIERS: Mapping[str, tuple[type[Config], Callable[[Any], Network]]] = {
    "bert": (BertConfig, BertClassifier),
    **dict.fromkeys(ROBERTA, (BertConfig, RobertaClassifier)),
    **dict.fromkeys(MODERNBERT, (ModernBertConfig, ModernBertClassifier)),
}
# Of an encoder whose config names no length.
DEFAULT_CONTEXT = 512


class EncoderError(ValueError):
    """The checkpoint cannot be loaded; the message says what is wrong."""


@dataclass
class EncoderModel:
    name: str
    folder: Path
    network: Network
    tokenizer: EncoderTokenizer
    config: dict[str, Any]
    vocab: int
    context: int
    notes: list[str] = field(default_factory=list)  # decisions made while loading


def load(
    local: LocalModel,
    *,
    float32: bool = False,
    context: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
) -> EncoderModel:
    """Load everything on the calling thread, which owns the arrays from then on."""
    config = read_json(local.folder / "config.json")
    notes: list[str] = []
    tensors = read_shards(local.name, local.shards(""), "unpacked" if float32 else "half", notes)
    if reason := why_unsupported(config):
        raise EncoderError(f"{local.name} cannot be run: {reason}")
    network = _build(local.name, config, tensors)
    weights = network.weight_map
    load_tensors(
        network,
        tensors,
        replace(weights, drop=(*weights.drop, *network.headless)),
        mx.float32 if float32 else None,
    )
    network.eval()
    tokenizer = EncoderTokenizer.load(local.folder)
    evaluate(network, progress)
    return EncoderModel(
        local.name, local.folder, network, tokenizer, config, network.config.vocab_size,
        _context(local.folder, config, tokenizer, context), [*notes, *_notes(tensors, float32)],
    )  # fmt: skip


def _build(name: str, config: Mapping[str, Any], tensors: Mapping[str, mx.array]) -> Network:
    networks = CLASSIFIERS if is_classifier(config) else NETWORKS
    config_class, network_class = networks[str(config.get("model_type"))]
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    # Layers are created one by one: a billion of them would fill the memory.
    if isinstance(layers, int) and layers > len(tensors):
        raise EncoderError(
            f"{name}: its config.json has {layers} layers, but its weights are {len(tensors)} tensors"
        )
    try:
        return network_class(config_class.from_dict(config))
    except ConfigError as error:
        raise EncoderError(f"{name}: its config.json cannot be used: {error}") from error


def _notes(tensors: Mapping[str, mx.array], float32: bool) -> list[str]:
    if float32 and any(value.dtype in HALVES for value in tensors.values()):
        return ["half-precision weights are converted to float32: processors have no fast path for them"]
    return []


def _context(
    folder: Path, config: Mapping[str, Any], tokenizer: EncoderTokenizer, context: int | None
) -> int:
    """The smallest of what the network has positions for, what the checkpoint was made for, and what is asked for."""
    sentences = folder / "sentence_bert_config.json"
    stated = read_json(sentences).get("max_seq_length") if sentences.exists() else None
    limits = [max_context(config) or DEFAULT_CONTEXT, tokenizer.max_length, stated, context]
    return min(limit for limit in limits if isinstance(limit, int) and limit > 0)
