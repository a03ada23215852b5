"""A text's table of blocks, and the digests by which full blocks are known. No MLX."""

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field

BLOCK = 32  # tokens
PICTURE_TOKEN_BYTES = 24
TRASH = 0  # a block that is never handed out: padding is written there


@dataclass(eq=False)
class Table:
    """The blocks of one text in order. `length`: tokens written; `digests`: of its registered full blocks."""

    salt: bytes
    blocks: list[int] = field(default_factory=list)
    length: int = 0
    # Positions are so much more than places: what follows pictures with positions of their own.
    shift: int = 0
    digests: list[bytes] = field(default_factory=list)

    @property
    def room(self) -> int:
        return len(self.blocks) * BLOCK

    @property
    def parent(self) -> bytes:
        """The digest of all registered blocks."""
        return self.digests[-1] if self.digests else root(self.salt)


def root(salt: bytes) -> bytes:
    return hashlib.blake2b(salt, digest_size=16, person=b"diptych keys").digest()


def chained(parent: bytes, tokens: Sequence[int]) -> bytes:
    return hashlib.blake2b(parent + _bytes(tokens), digest_size=16).digest()


def _bytes(tokens: Sequence[int]) -> bytes:
    try:
        return array("q", tokens).tobytes()
    except OverflowError:  # tokens of pictures; as many bytes in all as no block of words has
        return b"".join(token.to_bytes(PICTURE_TOKEN_BYTES, "little") for token in tokens)


def needed(length: int) -> int:
    """How many blocks hold so many tokens."""
    return -(-length // BLOCK)


def common_length(a: Sequence[int], b: Sequence[int]) -> int:
    """The length of the common beginning."""
    for at, (one, other) in enumerate(zip(a, b, strict=False)):
        if one != other:
            return at
    return min(len(a), len(b))
