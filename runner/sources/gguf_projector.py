"""Which mmproj file beside a GGUF is the one that its model sees with. Works on names alone."""

import re
from collections.abc import Iterable

MMPROJ = re.compile("(?i)mmproj")
# As precise as the checkpoint, small ones first; one of another precision comes last.
_PRECISIONS = ("f16", "bf16", "f32", "q8_0")
_WORDS = re.compile(r"[^a-z0-9]+")
# Parts of the names of quantizations.
_QUANTIZATION = re.compile(r"i?q\d\w*|tq\d|b?f\d\d|[a-z0-9]|xx?s|xl|ud")


def projector_of(model: str, listing: Iterable[str]) -> str | None:
    """The mmproj file for a GGUF file, both by their paths in a folder or repo: beside the model, or else in its root; of
    several the one whose name has most of the model's words, and then by precision."""
    files = [name for name in listing if MMPROJ.search(_file(name)) and name.lower().endswith(".gguf")]
    for folder in (model.rpartition("/")[0], ""):
        beside = [name for name in files if name.rpartition("/")[0] == folder]
        if beside:
            return min(beside, key=lambda name: (-len(_words(name) & _words(model)), _precision(name), name))
    return None


def _file(name: str) -> str:
    return name.rpartition("/")[2]


def _words(name: str) -> set[str]:
    words = set(_WORDS.split(_file(name).lower().removesuffix(".gguf")))
    return {word for word in words if word and not _QUANTIZATION.fullmatch(word)} - {"mmproj", "model"}


def _precision(name: str) -> int:
    lower = _file(name).lower()
    found = [at for at, word in enumerate(_PRECISIONS) if re.search(rf"(^|[-_.]){word}([-_.]|$)", lower)]
    return found[0] if found else len(_PRECISIONS)
