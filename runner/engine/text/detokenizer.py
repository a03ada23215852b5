"""Tokens to text, one at a time: the joined pieces equal the tokenizer's decoding of all tokens at once.

tokenizers.DecodeStream is not used. It raises an error if a run of byte tokens turns out to be invalid after a complete
character was emitted, and it keeps decoding a long run of bytes that never completes a character.
"""

import codecs
import json
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, Protocol

from tokenizers import Tokenizer

INCOMPLETE = "\ufffd"
BYTE_TOKEN = re.compile("<0x[0-9A-Fa-f]{2}>")
# No character takes more tokens than this: if more are pending, they do not form one.
LONGEST_CHARACTER = 16


class Decoder(Protocol):
    def decode(self, token_ids: list[int], /) -> str: ...


class Detokenizer:
    """For one answer. `tokenizer` is a tokenizers.Tokenizer, a transformers tokenizer, or any object with `decode`.

    `context`: the last tokens of the text that the answer continues; they determine whether it begins with a space.
    """

    def __init__(self, tokenizer: Tokenizer | Decoder, context: Sequence[int] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._decoder: _ByteLevelDecoder | _ContextDecoder
        if not isinstance(backend, Tokenizer):
            self._decoder = _ContextDecoder(tokenizer.decode, lambda token: "", context)
        elif is_byte_level(backend):
            self._decoder = _ByteLevelDecoder(backend)
        else:
            self._decoder = _ContextDecoder(
                lambda tokens: backend.decode(tokens, skip_special_tokens=False),
                backend.id_to_token,
                context,
            )

    def add(self, token: int) -> str:
        """The characters completed by this token: none if a character is still incomplete, or for an unknown token."""
        return self._decoder.add(token)

    def finish(self) -> str:
        """The pending rest, with U+FFFD for incomplete characters."""
        return self._decoder.finish()


class _ByteLevelDecoder:
    """Byte-level vocabularies: tokens are byte sequences, so UTF-8 determines which characters are complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._word = tokenizer.id_to_token
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        word = self._word(token)
        return "" if word is None else self._utf8.decode(byte_level_bytes(word))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _ContextDecoder:
    """Other vocabularies: decodes the pending tokens together with a few earlier ones as context.

    A run of byte tokens stays pending until the token after it: one invalid byte makes the decoder discard the whole run,
    including characters that were already complete.
    """

    def __init__(
        self,
        decode: Callable[[list[int]], str],
        word: Callable[[int], str | None],
        context: Sequence[int] = (),
    ) -> None:
        self._decode = decode
        self._word = word
        self._context = list(context)
        self._context_text = decode(self._context) if context else ""
        self._pending: list[int] = []

    def add(self, token: int) -> str:
        word = self._word(token)
        if word is None:
            return ""
        self._pending.append(token)
        if BYTE_TOKEN.fullmatch(word):
            return ""
        try:
            text = self._decode(self._context + self._pending)
        except (LookupError, TypeError, ValueError, OverflowError):
            # Decoders written in Python raise various errors for unknown tokens.
            self._pending.pop()
            return ""
        before = self._context_text
        incomplete = text.endswith(INCOMPLETE) and not word.endswith(INCOMPLETE)
        if incomplete or len(text) <= len(before) or not text.startswith(before):
            return "" if len(self._pending) < LONGEST_CHARACTER else self._emit(self._character_border())
        return self._emit(len(self._pending))

    def finish(self) -> str:
        return self._emit(len(self._pending))

    def _emit(self, count: int) -> str:
        """The text of the first pending tokens, which become the context of the following ones."""
        tokens, self._pending = self._pending[:count], self._pending[count:]
        if not tokens:
            return ""
        text = self._decode(self._context + tokens)
        sent = _common(text, self._context_text)
        self._context, self._context_text = tokens, self._decode(tokens)
        return text[sent:]

    def _character_border(self) -> int:
        """Where to cut pending tokens that complete nothing: not inside a character, which has at most four bytes."""
        half, text = len(self._pending) // 2, self._decode(self._pending)
        for cut in range(half, half + 4):
            if self._decode(self._pending[:cut]) + self._decode(self._pending[cut:]) == text:
                return cut
        return half


def _common(text: str, sent: str) -> int:
    """How much of the text was emitted; if new tokens changed the text of the last ones, what was emitted stays."""
    if text.startswith(sent):
        return len(sent)
    return next((i for i, (new, old) in enumerate(zip(text, sent, strict=False)) if new != old), len(text))


def is_byte_level(tokenizer: Tokenizer) -> bool:
    if tokenizer.decoder is None:
        return False
    decoder = json.loads(tokenizer.decoder.__getstate__())
    parts = decoder["decoders"] if decoder["type"] == "Sequence" else [decoder]
    return {part["type"] for part in parts} - {"Fuse"} == {"ByteLevel"}


@lru_cache(1)
def _alphabet() -> dict[str, int]:
    """The printable characters that stand for bytes in byte-level vocabularies."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}


@lru_cache(1 << 18)
def byte_level_bytes(word: str) -> bytes:
    alphabet = _alphabet()
    if all(char in alphabet for char in word):
        return bytes(alphabet[char] for char in word)
    # An added token, for example one with a space in it, stands for its own text.
    return word.encode()


class TokenText:
    """Single tokens as text and as bytes, for log probabilities."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._byte_level = is_byte_level(getattr(tokenizer, "backend_tokenizer", tokenizer))
        self.text = lru_cache(maxsize=65536)(self._text)
        self.bytes = lru_cache(maxsize=65536)(self._bytes)

    def _text(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _bytes(self, token: int) -> bytes:
        """The bytes of a token, possibly only part of a character."""
        word = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(word, str):
            return b""
        if BYTE_TOKEN.fullmatch(word):
            return bytes([int(word[3:5], 16)])
        return byte_level_bytes(word) if self._byte_level else self._text(token).encode()
