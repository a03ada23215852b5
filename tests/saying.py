"""A language model that says what it was made to say, for tests of what is done with its words."""

import itertools
import json
from pathlib import Path

import mlx.core as mx
from transformers import PreTrainedTokenizerFast

from tests.toys.text import make_text_model

SURE = 100.0
ENDS = "<|im_end|>"


def make_saying_model(folder: Path, *pieces: str) -> Path:
    """A Qwen3 whose answer to any chat is these pieces, none of them twice, and then its end.

    Each piece is one token. Layers add nothing, so that what follows a token is in its embedding: a channel for each
    piece, which the head reads.
    """
    assert len(set(pieces)) == len(pieces), "what follows a piece is known by the piece alone"
    make_text_model(folder)
    ids = _add_tokens(folder, pieces)
    chain = [_last_of_prompt(folder), *ids]
    weights = mx.load(str(folder / "model.safetensors"))
    assert isinstance(weights, dict)
    for name, value in weights.items():
        if name.endswith(("o_proj.weight", "down_proj.weight")):
            weights[name] = mx.zeros_like(value)
    vocab, width = max(ids) + 1, weights["model.norm.weight"].size
    vocab = max(vocab, weights["lm_head.weight"].shape[0])
    embedding, head = mx.zeros((vocab, width)), mx.zeros((vocab, width))
    embedding[:, 0] = 1
    for channel, (token, following) in enumerate(itertools.pairwise(chain), start=1):
        embedding[token, 0], embedding[token, channel] = 0, 1
        head[following, channel] = SURE
    weights |= {
        "model.norm.weight": mx.ones(width),
        "model.embed_tokens.weight": embedding,
        "lm_head.weight": head,
    }
    mx.save_safetensors(str(folder / "model.safetensors"), weights, metadata={"format": "mlx"})
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": vocab}))
    return folder


def _add_tokens(folder: Path, pieces: tuple[str, ...]) -> list[int]:
    """The ids of the pieces and of the end; what the vocabulary lacks is added to it."""
    path = folder / "tokenizer.json"
    content = json.loads(path.read_text())
    ids = {token["content"]: token["id"] for token in content["added_tokens"]}
    plain = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    for piece in pieces:
        if piece not in ids:
            ids[piece] = max(ids.values()) + 1
            content["added_tokens"].append({"id": ids[piece], "content": piece, **plain})
    path.write_text(json.dumps(content, ensure_ascii=False))
    return [ids[piece] for piece in (*pieces, ENDS)]


def _last_of_prompt(folder: Path) -> int:
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer.encode("<|im_start|>assistant\n", add_special_tokens=False)
    return int(ids[-1])
