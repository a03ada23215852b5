"""Whether a language model sees pictures, by its files."""

from models.vision import SPREAD, has_tower, sees
from runner.errors import ModelNotSupported
from runner.sources import ModelFiles

__all__ = ["READS_TEXT", "SPREAD", "sees_pictures", "why_blind"]

READS_TEXT = "this model reads only text"


def sees_pictures(files: ModelFiles) -> bool:
    """Whether a language model reads pictures."""
    if not sees(files.read_json("config.json") or {}):
        return False
    try:
        return has_tower(files.tensors(""))
    except ModelNotSupported:  # loading it reports what is wrong
        return False


def why_blind(files: ModelFiles) -> str:
    """Why a language model reads no pictures; "" if it does."""
    if sees_pictures(files):
        return ""
    reason = files.blindness()
    return f"{READS_TEXT}: {reason}" if reason else READS_TEXT
