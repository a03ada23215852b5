"""The table by which SentencePiece replaces letters, checked: a damaged one would end the process that uses it."""

import numpy as np
from numpy.typing import NDArray

MOST_BYTES = 16 * 2**20
_LABEL = 0x8000_00FF


def is_sound(table: bytes) -> bool:
    """Whether every step that a text can take in it stays inside: a trie of 32-bit units behind its size, and the texts
    that stand for what it finds."""
    if not 4 < len(table) <= MOST_BYTES:
        return False
    size = int.from_bytes(table[:4], "little")
    if size < 4 or size % 4 or 4 + size > len(table):
        return False
    units = np.frombuffer(table[4 : 4 + size], "<u4").astype(np.int64)
    texts = table[4 + size :]
    try:
        texts.decode()
    except UnicodeDecodeError:
        return False
    return bool(texts) and texts[-1] == 0 and _stays_inside(units, np.frombuffer(texts, np.uint8))


def _stays_inside(units: NDArray[np.int64], texts: NDArray[np.uint8]) -> bool:
    seen = np.zeros(len(units), bool)
    places = _children(units[:1])
    while len(places):
        if (places | 0xFF).max() >= len(units):
            return False
        seen[places] = True
        steps = places[:, None] ^ np.arange(1, 256)
        found = units[steps]
        hit = (found & _LABEL) == np.arange(1, 256)
        nodes, reached = steps[hit], found[hit]
        places = nodes ^ _children(reached)
        leaves = places[((reached >> 8) & 1) == 1]
        if len(leaves):
            if leaves.max() >= len(units):
                return False
            values = units[leaves] & 0x7FFF_FFFF
            if values.max() >= len(texts) or ((texts[values] & 0xC0) == 0x80).any():
                return False
        if len(places) and places.max() >= len(units):
            return False
        places = np.unique(places[~seen[places]])
    return True


def _children(units: NDArray[np.int64]) -> NDArray[np.int64]:
    """The offset of a unit, to where its children are."""
    return (units >> 10) << ((units & 0x200) >> 6)
