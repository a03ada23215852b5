"""A tiny checkpoint of a model type: transformers' own class with random weights, written by save_pretrained."""

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import (
    CONFIG_MAPPING,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PretrainedConfig,
    PreTrainedModel,
)
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from .recipes import COMMON, SETTINGS, VISION
from .types import TOWERS

# Parameters that must keep their initial values for a recurrence to be stable.
STRUCTURED = ("A_log", "dt_bias", "D", "rg_lru", "recurrent_param", "layer_scalar")


def configuration(model_type: str, tied: bool, **changes: Any) -> PretrainedConfig:
    """The configuration of a type by its recipe, with `changes` (to the text model, for multimodal types)."""
    cls = CONFIG_MAPPING[model_type]
    tying = {"tie_word_embeddings": tied}
    if model_type not in TOWERS:
        return cls(**copy.deepcopy({**settings(model_type), **tying, **changes}))
    text = {**settings(TOWERS[model_type]), **tying, "model_type": TOWERS[model_type]}
    default = cls().vision_config
    vision = {} if default is None else {"vision_config": fitting(VISION, type(default))}
    return cls(**tying, **vision, text_config=copy.deepcopy({**text, **changes}))


def settings(model_type: str) -> dict[str, Any]:
    return fitting({**COMMON, **SETTINGS.get(model_type, {})}, CONFIG_MAPPING[model_type])


def fitting(values: Mapping[str, Any], cls: Any) -> dict[str, Any]:
    """The settings that the class has."""
    names = cls().to_dict().keys()
    return {key: value for key, value in values.items() if key in names and value is not None}


def write_checkpoint(config: PretrainedConfig, folder: Path) -> PreTrainedModel:
    """Create the model, and save it in `folder`."""
    torch.manual_seed(3)
    is_causal_lm = config.model_type in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and config.model_type not in TOWERS
    auto_class = AutoModelForCausalLM if is_causal_lm else AutoModelForImageTextToText
    model = auto_class.from_config(config, dtype=torch.float32, attn_implementation="eager").eval()
    randomize(model)
    model.save_pretrained(folder)
    return model


@torch.no_grad()
def randomize(model: PreTrainedModel) -> None:
    """Weights as large as in trained networks: initial values are so small that errors would not show."""
    generator = torch.Generator().manual_seed(5)
    stored: Mapping[str, torch.Tensor] = model.state_dict(keep_vars=True)
    for name, value in stored.items():
        if not value.is_floating_point() or name.rsplit(".", 1)[-1] in STRUCTURED:
            continue
        noise = torch.randn(value.shape, generator=generator)
        if value.ndim < 2:
            value.copy_(value.mean() + 0.2 * noise)
        else:
            value.copy_(noise if "embed" in name or "wte" in name else noise / value.shape[-1] ** 0.5)


def logits(model: PreTrainedModel, prompt: list[int]) -> torch.Tensor:
    with torch.no_grad():
        return model(torch.tensor([prompt]), use_cache=False).logits[0].float()
