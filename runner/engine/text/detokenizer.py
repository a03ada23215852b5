"""Tokens to text, one at a time: the pieces joined are the tokenizer's own decoding of all the tokens at once.

The stream that tokenizers offers is not used: it raises when a run of byte tokens turns out invalid after a whole
character was sent, and keeps and decodes again all of a long run of bytes that never completes a character.
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
# No character takes more tokens than this, so what is still unsettled after them never completes one.
LONGEST_CHARACTER = 16


class Decoder(Protocol):
    def decode(self, token_ids: list[int], /) -> str: ...


class Detokenizer:
    """For one answer. `tokenizer` is a tokenizers.Tokenizer, a transformers tokenizer, or anything that decodes.

    `context`: the last tokens of a text that the answer goes on with, which decides about a space at its start.
    """

    def __init__(self, tokenizer: Tokenizer | Decoder, context: Sequence[int] = ()) -> None:
        backend = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._pieces: _Bytes | _Words
        if not isinstance(backend, Tokenizer):
            self._pieces = _Words(tokenizer.decode, lambda token: "", context)
        elif is_byte_level(backend):
            self._pieces = _Bytes(backend)
        else:
            self._pieces = _Words(
                lambda tokens: backend.decode(tokens, skip_special_tokens=False),
                backend.id_to_token,
                context,
            )

    def add(self, token: int) -> str:
        """The characters that this token makes complete: none while one is unfinished, or for an unknown token."""
        return self._pieces.add(token)

    def finish(self) -> str:
        """What was still unfinished, with U+FFFD for what never became a character."""
        return self._pieces.finish()


class _Bytes:
    """Byte-level vocabularies: each token is its bytes, so UTF-8 alone decides what is complete."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._word = tokenizer.id_to_token
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def add(self, token: int) -> str:
        word = self._word(token)
        return "" if word is None else self._utf8.decode(byte_level_bytes(word))

    def finish(self) -> str:
        return self._utf8.decode(b"", final=True)


class _Words:
    """Any other decoder, asked about the tokens that are not settled yet and a few before them for context.

    A run of byte tokens is settled by the token after it: one bad byte in it and the decoder gives up all of it, the
    characters already seen among them.
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
        self._open: list[int] = []

    def add(self, token: int) -> str:
        word = self._word(token)
        if word is None:
            return ""
        self._open.append(token)
        if BYTE_TOKEN.fullmatch(word):
            return ""
        try:
            text = self._decode(self._context + self._open)
        except (LookupError, TypeError, ValueError, OverflowError):
            # Decoders written in Python fail on what is not in their vocabulary, each in its own way.
            self._open.pop()
            return ""
        seen = self._context_text
        unfinished = text.endswith(INCOMPLETE) and not word.endswith(INCOMPLETE)
        if unfinished or len(text) <= len(seen) or not text.startswith(seen):
            return "" if len(self._open) < LONGEST_CHARACTER else self._settle(self._border())
        return self._settle(len(self._open))

    def finish(self) -> str:
        return self._settle(len(self._open))

    def _settle(self, count: int) -> str:
        """The text of the first open tokens, which become the context of what follows."""
        settled, self._open = self._open[:count], self._open[count:]
        if not settled:
            return ""
        text = self._decode(self._context + settled)
        sent = _common(text, self._context_text)
        self._context, self._context_text = settled, self._decode(settled)
        return text[sent:]

    def _border(self) -> int:
        """Where open tokens that complete nothing may be cut: not within a character, which has at most four bytes."""
        half, text = len(self._open) // 2, self._decode(self._open)
        for cut in range(half, half + 4):
            if self._decode(self._open[:cut]) + self._decode(self._open[cut:]) == text:
                return cut
        return half


def _common(text: str, sent: str) -> int:
    """How much of the text was sent already; where new tokens changed how the last ones read, what was sent stands."""
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
    # An added token, such as one with a space in it, stands for itself.
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
        """What the token stands for; half a character where it is that."""
        word = self._tokenizer.convert_ids_to_tokens(token)
        if not isinstance(word, str):
            return b""
        if BYTE_TOKEN.fullmatch(word):
            return bytes([int(word[3:5], 16)])
        return byte_level_bytes(word) if self._byte_level else self._text(token).encode()
