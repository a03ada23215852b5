"""What models see with: towers that turn pictures into rows of a text network's input, and what prepares pictures for them.

    FAMILIES   model_type of config.json -> the module of this package that has its `load` (see interface.Load)

Knows nothing of language models: the text networks are in models/language. Importing this package does not import MLX.
"""

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.vision.interface import Load

FAMILIES: dict[str, str] = {
    "gemma3": "gemma3",
    "idefics3": "idefics3",
    "qwen2_5_vl": "qwen2_5_vl",
    "qwen3_vl": "qwen3_vl",
    "qwen3_vl_moe": "qwen3_vl",
    "smolvlm": "idefics3",
}


def sees(config: Mapping[str, Any]) -> bool:
    """Whether the model that this config.json describes reads pictures here."""
    return config.get("model_type") in FAMILIES and isinstance(config.get("vision_config"), dict)


def loader(config: Mapping[str, Any]) -> "Load":
    """`load` of the family, for a config.json that `sees`."""
    load: Load = importlib.import_module(f"{__name__}.{FAMILIES[config['model_type']]}").load
    return load
