"""What models see with: towers that turn pictures into rows of a text network's input, and what prepares pictures for them.

    FAMILIES   model_type of config.json -> the module of this package that has its `load` (see interface.Load)

Knows nothing of language models: the text networks are in models/language. Importing this package does not import MLX.
"""

import importlib
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.vision.interface import Load

FAMILIES: dict[str, str] = {
    "gemma3": "gemma3",
    "idefics3": "idefics3",
    "mistral3": "mistral3",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "smolvlm": "idefics3",
}


# Why a model does not see that would otherwise.
SPREAD = "a model that is spread over several processes (--tensor-parallel) reads only text"
# In the names of a tower's tensors, in files of all ages.
TOWERS = ("visual.", "vision_tower.", "vision_model.")


def sees(config: Mapping[str, Any]) -> bool:
    """Whether the model that this config.json describes reads pictures here, if its files have the tower."""
    return config.get("model_type") in FAMILIES and isinstance(config.get("vision_config"), dict)


def has_tower(tensors: Iterable[str]) -> bool:
    """By the names of a checkpoint's tensors; text networks that were converted on their own leave it out."""
    return any(tower in name for name in tensors for tower in TOWERS)


def loader(config: Mapping[str, Any]) -> "Load":
    """`load` of the family, for a config.json that `sees`."""
    load: Load = importlib.import_module(f"{__name__}.{FAMILIES[config['model_type']]}").load
    return load
