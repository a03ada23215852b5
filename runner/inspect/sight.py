"""Whether a language model sees pictures, by its files."""

from models.vision import has_tower, sees
from runner.errors import ModelNotSupported
from runner.sources import ModelFiles


def sees_pictures(files: ModelFiles) -> bool:
    """Whether a language model reads pictures."""
    if not sees(files.read_json("config.json") or {}):
        return False
    try:
        return has_tower(files.tensors(""))
    except ModelNotSupported:  # loading it reports what is wrong
        return False
