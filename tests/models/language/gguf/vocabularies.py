"""Vocabularies of tiny models, as a GGUF's metadata has them."""

from typing import Any

CONTROL, NORMAL = 3, 1


def byte_symbols() -> list[str]:
    """The visible stand-ins of all bytes, in GPT-2's order."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    names = {byte: chr(byte) for byte in visible} | {byte: chr(256 + at) for at, byte in enumerate(hidden)}
    return [names[byte] for byte in range(256)]


def byte_pairs(size: int, pre: str = "gpt-2", **changes: Any) -> dict[str, Any]:
    """A vocabulary of bytes with three special tokens first; of fewer than all bytes if need be."""
    special = ["<unk>", "<s>", "</s>"]
    plain = byte_symbols()
    words = ["he", "ll", "hell"]
    tokens = [*special, *plain, *words, *(f"<extra_{number}>" for number in range(size))][:size]
    merges = [f"{one} {two}" for one, two in (("h", "e"), ("l", "l"), ("he", "ll")) if one + two in tokens]
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [CONTROL] * 3 + [NORMAL] * (size - 3),
        "tokenizer.ggml.merges": merges,
        "tokenizer.ggml.bos_token_id": 1,
        "tokenizer.ggml.eos_token_id": 2,
        "tokenizer.ggml.unknown_token_id": 0,
        **{f"tokenizer.{key}": value for key, value in changes.items()},
    }
