"""Tokens of a prompt that stand for rows of a picture: numbers beyond any vocabulary, made of the picture's content.

Blocks of keys and values are known by the tokens in them. So those of two pictures are never taken for each other, and those of
the same picture are shared.
"""

from models.vision.interface import DIGEST_BYTES

_ROW_BITS = 32
FIRST = 1 << 8 * DIGEST_BYTES + _ROW_BITS


def picture_token(digest: bytes, row: int) -> int:
    return FIRST | int.from_bytes(digest) << _ROW_BITS | row


def is_picture(token: int) -> bool:
    return token >= FIRST


def picture_row(token: int) -> tuple[bytes, int]:
    """The digest of a picture and the row that its token stands for."""
    content = token ^ FIRST
    return (content >> _ROW_BITS).to_bytes(DIGEST_BYTES), content & (1 << _ROW_BITS) - 1
