"""How text is split before byte pairs are merged: what `tokenizer.ggml.pre` stands for."""

from collections.abc import Mapping
from typing import NamedTuple

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r"\s*[\r\n]+|\s+(?!\S)|\s+"
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = (
    rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
)
QWEN2 = rf"{CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|\p{{N}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_REST}"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_BEFORE = r"[^\r\n\p{L}\p{N}]?"


def _cased(after: str, digits: str) -> str:
    """Words are split where lower case turns to upper case."""
    words = f"{_BEFORE}{_UPPER}*{_LOWER}+{after}|{_BEFORE}{_UPPER}+{_LOWER}*{after}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|{_REST}"


TEKKEN = _cased("", r"\p{N}")
O200K = _cased(f"{CONTRACTIONS}?", r"\p{N}{1,3}")


class Splitting(NamedTuple):
    """`ignore_merges`: a word that is a token is that token, however its bytes would merge. `bos`: texts begin with the
    token for that unless the file says otherwise."""

    patterns: tuple[str, ...]
    ignore_merges: bool = False
    nfc: bool = False
    bos: bool = False


_LLAMA3 = Splitting((LLAMA3,), ignore_merges=True, bos=True)
_DIGITS = Splitting((r"\p{N}", GPT2))
_QWEN2 = Splitting((QWEN2,), nfc=True)
SPLITTINGS: Mapping[str, Splitting] = {
    "llama-bpe": _LLAMA3,
    "llama3": _LLAMA3,
    "llama-v3": _LLAMA3,
    "falcon3": _LLAMA3,
    "dbrx": Splitting((LLAMA3,)),
    "smaug-bpe": Splitting((LLAMA3,)),
    "qwen2": _QWEN2,
    "deepseek-r1-qwen": _QWEN2,
    "megrez": _QWEN2,
    "gpt-2": Splitting((GPT2,)),
    "gpt2": Splitting((GPT2,)),
    "smollm": _DIGITS,
    "starcoder": _DIGITS,
    "refact": _DIGITS,
    "tekken": Splitting((TEKKEN,), ignore_merges=True, bos=True),
    "gpt-4o": Splitting((O200K,)),
}
