"""config.json as transformers reads it: legacy keys translated, defaults filled in, nested configurations included."""

import copy
import logging
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

log = logging.getLogger("diptych.language")

# Only the checkpoint knows its special tokens: a class's default would end texts at the wrong token.
TOKEN_IDS = ("bos_token_id", "eos_token_id", "pad_token_id", "sep_token_id", "decoder_start_token_id")
FLOAT = "__float__"


def plain_floats(value: Any) -> Any:
    """Resolve {"__float__": "Infinity"}, by which transformers 5 writes numbers that JSON does not have."""
    if isinstance(value, Mapping):
        if set(value) == {FLOAT}:
            return float(value[FLOAT])
        return {key: plain_floats(item) for key, item in value.items()}
    return [plain_floats(item) for item in value] if isinstance(value, list) else value


class TransformersConfig:
    """A configuration read by transformers' class for its `model_type`. Values can be looked up by every name that the
    class has for them: `hidden_size` works if the file has `n_embd`."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def get(self, name: str) -> Any:
        """The value with that name, or None; also None for values that differ from layer to layer."""
        try:
            value = getattr(self._config, name, None)
        except Exception:  # transformers raises an error class that it does not export
            return None
        return value.to_dict() if value is not None and hasattr(value, "to_dict") else value

    def declared(self, name: str) -> Any:
        """The value of a field that the class declares; None for additional fields of the file."""
        return self.get(name) if hasattr(type(self._config), name) else None

    def derived(self, name: str) -> bool:
        """Whether the class computes the value from others, and refuses a file that contains it."""
        attribute = getattr(type(self._config), name, None)
        return isinstance(attribute, property) and attribute.fset is None

    @property
    def head_dim(self) -> int | None:
        head_dim, hidden, heads = (
            self.get(key) for key in ("head_dim", "hidden_size", "num_attention_heads")
        )
        if isinstance(head_dim, int):
            return head_dim
        return hidden // heads if isinstance(hidden, int) and isinstance(heads, int) and heads else None

    def values(self) -> dict[str, Any]:
        """All values except None, by every name that the class has for them."""
        values = {key: value for key, value in self._config.to_dict().items() if value is not None}
        names = getattr(type(self._config), "attribute_map", {})
        return {**{name: values[key] for name, key in names.items() if key in values}, **values}


def _whole_floats(cls: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    """Convert integers to floats where the class only accepts floats: JSON does not distinguish them."""
    hints = {field.name: str(field.type) for field in fields(cls)} if is_dataclass(cls) else {}
    return {
        key: float(value)
        if type(value) is int and "float" in hints.get(key, "") and "int" not in hints[key]
        else value
        for key, value in config.items()
    }


def transformers_config(config: Mapping[str, Any]) -> TransformersConfig | None:
    """None if transformers has no class of that type or refuses the values: config.json is then taken as it is."""
    from transformers import CONFIG_MAPPING

    model_type = config.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        return None
    try:
        cls = CONFIG_MAPPING[model_type]
        return TransformersConfig(cls.from_dict(_whole_floats(cls, copy.deepcopy(dict(config)))))
    except Exception as error:  # each class validates in its own way
        log.warning("transformers does not accept this config.json as a %s: %s", model_type, error)
        return None
