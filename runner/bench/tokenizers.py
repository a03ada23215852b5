"""Tokenizers for models without a checkpoint: each byte or letter is a token, in a vocabulary of any size."""

import json
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

CHATML = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""
# "text" is for language models; transformers reads it as the file has it.
CLASSES = {
    "qwen": "Qwen2Tokenizer",
    "qwen-vl": "Qwen2Tokenizer",
    "text": "PreTrainedTokenizerFast",
    "clip": "CLIPTokenizer",
    "t5": "T5Tokenizer",
}
SPECIALS = {
    "qwen": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "qwen-vl": (
        "<|endoftext|>",
        "<|im_start|>",
        "<|im_end|>",
        "<|vision_start|>",
        "<|vision_end|>",
        "<|image_pad|>",
    ),
    "text": ("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
    "clip": ("<|startoftext|>", "<|endoftext|>"),
    "t5": ("<pad>", "</s>", "<unk>"),
}


def write_tokenizer(folder: Path, kind: str, vocab_size: int) -> None:
    """tokenizer.json and its configuration, for a model with this vocabulary."""
    folder.mkdir(parents=True, exist_ok=True)
    specials = SPECIALS[kind]
    plain = vocab_size - len(specials)
    backend = _letters(plain) if kind == "t5" else _bytes(plain, "</w>" if kind == "clip" else "")
    backend.add_tokens([AddedToken(token, special=True) for token in specials])
    backend.save(str(folder / "tokenizer.json"), pretty=False)
    config: dict[str, Any] = {"tokenizer_class": CLASSES[kind], "model_max_length": 40960}
    if kind in ("qwen", "qwen-vl", "text"):
        config |= {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "chat_template": CHATML}
        end = {"eos_token_id": backend.token_to_id("<|im_end|>")}
        (folder / "generation_config.json").write_text(json.dumps(end))
    elif kind == "clip":
        config["model_max_length"] = 77
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _bytes(size: int, end: str) -> Tokenizer:
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    vocabulary = _padded([*alphabet, *([letter + end for letter in alphabet] if end else [])], size, "Ġ")
    suffix = {"end_of_word_suffix": end} if end else {}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[], **suffix))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _letters(size: int) -> Tokenizer:
    letters = ["▁", *map(chr, range(33, 127))]
    vocabulary = [(token, -1.0) for token in _padded(letters, size, "▁")]
    backend = Tokenizer(models.Unigram(vocabulary, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    return backend


def _padded(tokens: list[str], size: int, space: str) -> dict[str, int]:
    """The tokens, followed by words up to `size`: no prompt contains them, but a model may write them."""
    count = max(0, size - len(tokens))
    return {token: at for at, token in enumerate([*tokens, *(space + _word(n) for n in range(count))])}


def _word(number: int) -> str:
    """A number as four letters, which no prompt happens to contain."""
    letters = ""
    for _ in range(4):
        number, at = divmod(number, len(ascii_lowercase))
        letters = ascii_lowercase[at] + letters
    return letters
