"""config.json as transformers understands it: legacy keys put in place, defaults filled in, nested configurations too."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

log = logging.getLogger("diptych.language")

# How a text begins and ends is the checkpoint's to say: a class's default would stop texts in the wrong place.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id")
FLOAT = "__float__"


def plain_floats(value: Any) -> Any:
    """{"__float__": "Infinity"}, as transformers 5 writes what JSON has no number for, as that number."""
    if isinstance(value, Mapping):
        if set(value) == {FLOAT}:
            return float(value[FLOAT])
        return {key: plain_floats(item) for key, item in value.items()}
    return [plain_floats(item) for item in value] if isinstance(value, list) else value


class Standard:
    """A configuration read by transformers' class for its `model_type`. It answers to every name that the class has for
    a value: `hidden_size` is there where the file says `n_embd`."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def get(self, name: str) -> Any:
        """The value under that name, or None. None too for what differs from layer to layer."""
        try:
            value = getattr(self._config, name, None)
        except Exception:  # transformers has a class of its own for it, which it does not export
            return None
        return value.to_dict() if value is not None and hasattr(value, "to_dict") else value

    def declared(self, name: str) -> Any:
        """The value of what the class declares; None for what a file merely carries along."""
        return self.get(name) if hasattr(type(self._config), name) else None

    def derived(self, name: str) -> bool:
        """Whether the class computes the value from others, and refuses a file that states it."""
        attribute = getattr(type(self._config), name, None)
        return isinstance(attribute, property) and attribute.fset is None

    @property
    def head_dim(self) -> int | None:
        stated, hidden, heads = (self.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads"))
        if isinstance(stated, int):
            return stated
        return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None

    def values(self) -> dict[str, Any]:
        """All values that are not None, by every name that the class has for them."""
        values = {key: value for key, value in self._config.to_dict().items() if value is not None}
        names = getattr(type(self._config), "attribute_map", {})
        return {**{name: values[key] for name, key in names.items() if key in values}, **values}


def _whole_floats(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Whole numbers as floats where the class takes nothing else: JSON knows no difference."""
    hints = {field.name: str(field.type) for field in fields(cls)} if is_dataclass(cls) else {}
    return {
        key: float(value)
        if type(value) is int and "float" in hints.get(key, "") and "int" not in hints[key]
        else value
        for key, value in config.items()
    }


def standard(config: Mapping[str, Any]) -> Standard | None:
    """None where transformers has no class of that type or refuses the values: config.json then speaks for itself."""
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    try:
        cls = CONFIG_MAPPING[model_type]
        return Standard(cls.from_dict(_whole_floats(cls, copy.deepcopy(dict(config)))))
    except Exception as error:  # each class validates in its own way
        log.warning("transformers does not accept this config.json as a %s: %s", model_type, error)
        return None
