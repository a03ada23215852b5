"""Single tokens as text and as bytes, for log probabilities."""

from functools import lru_cache
from typing import Any

from runner.engine.text.detokenizer import BYTE_TOKEN, byte_level_bytes, is_byte_level


class Words:
    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._byte_level = is_byte_level(getattr(tokenizer, "backend_tokenizer", tokenizer))
        self.text = lru_cache(maxsize=65536)(self._text)
        self.bytes = lru_cache(maxsize=65536)(self._bytes)

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _bytes(self, token: int) -> bytes:
        """What the token stands for; half a character where it is that."""
        word = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(word, str):
            return b""
        if BYTE_TOKEN.fullmatch(word):
            return bytes([int(word[3:5], 16)])
        return byte_level_bytes(word) if self._byte_level else self._text(token).encode()
