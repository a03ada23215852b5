"""Encoders as the GGUF that llama.cpp's converter writes of them, by the package `gguf`."""

import json
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np

OUTSIDE = {
    "embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types",
    "embeddings.position_embeddings": "position_embd", "embeddings.LayerNorm": "token_embd_norm", "emb_ln": "token_embd_norm",
    "classifier.dense": "cls", "classifier.out_proj": "cls.output",
}  # fmt: skip
INSIDE = {
    "attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm",
    "attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "norm1": "attn_output_norm", "mlp.fc11": "ffn_up",
    "mlp.fc12": "ffn_gate", "mlp.fc2": "ffn_down", "norm2": "layer_output_norm",
}  # fmt: skip
ARCHITECTURES = {"bert": "bert", "xlm-roberta": "bert", "nomic_bert": "nomic-bert"}
CONTROL, NORMAL = 3, 1


def name(key: str) -> str | None:
    layer, _, kind = key.removeprefix("roberta.").rpartition(".")
    if layer in OUTSIDE:
        return f"{OUTSIDE[layer]}.{kind}"
    _, _, number, inner = layer.split(".", 3) if layer.startswith("encoder.") else ("", "", "", "")
    return f"blk.{number}.{INSIDE[inner]}.{kind}" if inner else None


def convert(folder: Path, path: Path, kind: str = "F32", pooling: int | None = 1, **changes: Any) -> Path:
    """`kind`: the type of matrices whose rows consist of whole blocks. `changes`: metadata without the architecture."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    config = json.loads((folder / "config.json").read_text())
    arch = ARCHITECTURES[config["model_type"]]
    writer = GGUFWriter(path, arch)
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    if "rope_parameters" in config:
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    if pooling is not None:
        writer.add_uint32(f"{arch}.pooling_type", pooling)
    for key, value in changes.items():
        (writer.add_bool if isinstance(value, bool) else writer.add_uint32)(f"{arch}.{key}", value)
    (_add_pieces if (folder / "pieces.model").is_file() else _add_vocabulary)(writer, folder)
    for key, value in mx.load(str(folder / "model.safetensors")).items():
        target, array = name(key), np.array(value)
        if target == "position_embd.weight" and config["model_type"] == "xlm-roberta":
            array = array[config["pad_token_id"] + 1 :]  # its positions begin behind the padding token's
        if target is not None and kind != "F32" and fits(array, target):
            type_ = GGMLQuantizationType[kind]
            writer.add_tensor(target, quantize(array, type_), raw_dtype=type_)
        elif target is not None:
            writer.add_tensor(target, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def fits(array: np.ndarray, target: str) -> bool:
    """Whether a tensor may be quantized, as llama.cpp has it."""
    return (
        array.ndim > 1
        and array.shape[-1] % 32 == 0
        and target not in ("token_types.weight", "position_embd.weight")
    )


def rounded(folder: Path, kind: str) -> Path:
    """The checkpoint with the weights that a file of this kind holds, in place."""
    from gguf import GGMLQuantizationType
    from gguf.quants import dequantize, quantize

    tensors = {key: np.array(value) for key, value in mx.load(str(folder / "model.safetensors")).items()}
    type_ = GGMLQuantizationType[kind]
    for key, array in tensors.items():
        target = name(key)
        if target is not None and kind != "F32" and fits(array, target):
            tensors[key] = dequantize(quantize(array, type_), type_)
    mx.save_safetensors(
        str(folder / "model.safetensors"), {key: mx.array(value) for key, value in tensors.items()}
    )
    return folder


def _add_vocabulary(writer: Any, folder: Path) -> None:
    words = (folder / "vocab.txt").read_text().splitlines()
    special = {word for word in words if word.startswith("[") and "unused" not in word}
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([word if word in special else phantom(word) for word in words])
    writer.add_token_types([CONTROL if word in special else NORMAL for word in words])
    writer.add_token_type_count(2)
    writer.add_unk_token_id(words.index("[UNK]"))
    writer.add_sep_token_id(words.index("[SEP]"))
    writer.add_pad_token_id(words.index("[PAD]"))
    writer.add_bos_token_id(words.index("[CLS]"))
    writer.add_mask_token_id(words.index("[MASK]"))


def _add_pieces(writer: Any, folder: Path) -> None:
    """SentencePiece's, in the order that XLM-RoBERTa has them in."""
    model = pieces(folder)
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *(piece.piece for piece in model.pieces[3:]), "<mask>"]
    scores = [0.0, 0.0, 0.0, 0.0, *(piece.score for piece in model.pieces[3:]), 0.0]
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types([CONTROL] * 3 + [2] + [NORMAL] * (len(tokens) - 5) + [CONTROL])
    writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    writer.add_remove_extra_whitespaces(model.normalizer_spec.remove_extra_whitespaces)
    if model.normalizer_spec.precompiled_charsmap:
        writer.add_precompiled_charsmap(model.normalizer_spec.precompiled_charsmap)
    writer.add_bos_token_id(0)
    writer.add_pad_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(3)
    writer.add_sep_token_id(2)
    writer.add_mask_token_id(len(tokens) - 1)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(True)


def pieces(folder: Path) -> Any:
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((folder / "pieces.model").read_bytes())
    return model


def train_pieces(folder: Path, size: int) -> Path:
    """A vocabulary of SentencePiece's Unigram; with those that XLM-RoBERTa adds it has two more."""
    import sentencepiece

    text = [
        "the sea and the boats at sea",
        "a boat sees the shore",
        "ein Boot auf der See",
        "été à la mer",
        "ｆｕｌｌ　ｗｉｄｔｈ ②",
    ]
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text * 8), model_prefix=str(folder / "pieces"), vocab_size=size - 2, model_type="unigram",
        minloglevel=2, hard_vocab_limit=False, normalization_rule_name="nmt_nfkc",
    )  # fmt: skip
    return folder


def phantom(word: str) -> str:
    return word[2:] if word.startswith("##") else f"▁{word}"
