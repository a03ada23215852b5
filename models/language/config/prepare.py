"""config.json to the configuration that mlx-lm is given."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from models.language.config.fields import COMPUTED, PLAINLY_ROTATED, RENAMED
from models.language.config.rope import flat_rope, is_per_layer, rope_parameters
from models.language.config.standard import Standard, plain_floats, standard

NESTED = "text_config"
# Fields that some of mlx-lm's architectures require though there may be nothing to say.
OPTIONAL = ("sliding_window", "sliding_window_pattern", "rope_scaling")


def prepare(config: Mapping[str, Any], arguments: type | None = None) -> dict[str, Any]:
    """A copy of `config` with every field that mlx-lm reads, by the name and in the layout that it reads.

    What the file states stays. What it leaves out is what transformers would take, where mlx-lm would take another
    default or none. `arguments` is the dataclass that mlx-lm fills; without it every default is written down.
    """
    config = plain_floats(config)
    known = standard(config)
    prepared = dict(config)
    if known is not None:
        prepared |= _absent(prepared, known, arguments)
    prepared |= _rope(prepared, known)
    nested = config.get(NESTED)
    if isinstance(nested, Mapping):
        prepared[NESTED] = prepare(nested)
    model_type = str(config.get("model_type"))
    for field, name in RENAMED.get(model_type, {}).items():
        if prepared.get(field) is None and prepared.get(name) is not None:
            prepared[field] = prepared[name]
    if known is not None and model_type in PLAINLY_ROTATED:
        prepared["rope_scaling"] = None
    if model_type in COMPUTED:
        prepared |= COMPUTED[model_type](prepared)
    return prepared


def _absent(config: Mapping[str, Any], known: Standard, arguments: type | None) -> dict[str, Any]:
    """transformers' values for what the file does not state."""
    if arguments is None or not is_dataclass(arguments):
        return {
            key: value
            for key, value in known.values().items()
            if key not in config and not key.endswith("token_id")
        }
    absent: dict[str, Any] = {}
    for field in fields(arguments):
        if field.name in config or known.derived(field.name):
            continue
        value = known.get(field.name)
        required = field.default is MISSING and field.default_factory is MISSING
        if value is None and field.name == "head_dim":
            value = known.head_dim
        if value is not None or (required and field.name in OPTIONAL):
            absent[field.name] = value
    return absent


def _rope(config: Mapping[str, Any], known: Standard | None) -> dict[str, Any]:
    parameters = known.get("rope_parameters") if known is not None else None
    if not isinstance(parameters, Mapping):
        parameters = rope_parameters(config)
    if not parameters:
        return {}
    if is_per_layer(parameters):
        return {"rope_parameters": dict(parameters)}
    return {"rope_parameters": dict(parameters), **flat_rope(parameters)}
