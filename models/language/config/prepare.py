"""config.json to the configuration that mlx-lm gets."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from models.language.config.fields import COMPUTED, CREATED_WITHOUT_ROPE_SCALING, RENAMED
from models.language.config.rope import flat_rope, is_per_layer, rope_parameters
from models.language.config.standard import TOKEN_IDS, TransformersConfig, plain_floats, transformers_config

NESTED = "text_config"
# Fields that some of mlx-lm's architectures require even if they are None.
OPTIONAL = ("sliding_window", "sliding_window_pattern", "rope_scaling")


def prepare(config: Mapping[str, Any], arguments: type | None = None) -> dict[str, Any]:
    """A copy of `config` with every field that mlx-lm reads, under the name and in the layout that it reads.

    Values in the file are kept. Fields that it omits get transformers' default where mlx-lm has a different one or none.
    `arguments` is the dataclass that mlx-lm fills; without it all defaults are added.
    """
    config = plain_floats(config)
    reference = transformers_config(config)
    prepared = dict(config)
    if reference is not None:
        prepared |= _nested(config, reference)
    if reference is not None:
        prepared |= _defaults(prepared, reference, arguments)
    prepared |= _rope(prepared, reference)
    nested = prepared.get(NESTED)
    if isinstance(nested, Mapping):
        prepared[NESTED] = prepare(nested)
    model_type = str(config.get("model_type"))
    for field, name in RENAMED.get(model_type, {}).items():
        if prepared.get(field) is None and prepared.get(name) is not None:
            prepared[field] = prepared[name]
    if reference is not None and model_type in CREATED_WITHOUT_ROPE_SCALING:
        prepared["rope_scaling"] = None
    if model_type in COMPUTED:
        prepared |= COMPUTED[model_type](prepared)
    return prepared


def _nested(config: Mapping[str, Any], reference: TransformersConfig) -> dict[str, Any]:
    """The text_config of older files of models that see, which have its fields beside the others."""
    text = reference.get(NESTED) if isinstance(config.get("vision_config"), Mapping) else None
    if isinstance(config.get(NESTED), Mapping) or not isinstance(text, Mapping):
        return {}
    return {NESTED: {key: value for key, value in text.items() if key not in TOKEN_IDS or key in config}}


def _defaults(
    config: Mapping[str, Any], reference: TransformersConfig, arguments: type | None
) -> dict[str, Any]:
    """transformers' values for fields that the file omits."""
    if arguments is None or not is_dataclass(arguments):
        return {
            key: value
            for key, value in reference.values().items()
            if key not in config and not key.endswith("token_id")
        }
    defaults: dict[str, Any] = {}
    for field in fields(arguments):
        if field.name in config or reference.derived(field.name):
            continue
        value = reference.get(field.name)
        required = field.default is MISSING and field.default_factory is MISSING
        if value is None and field.name == "head_dim":
            value = reference.head_dim
        if value is not None or (required and field.name in OPTIONAL):
            defaults[field.name] = value
    return defaults


def _rope(config: Mapping[str, Any], reference: TransformersConfig | None) -> dict[str, Any]:
    parameters = reference.get("rope_parameters") if reference is not None else None
    if not isinstance(parameters, Mapping):
        parameters = rope_parameters(config)
    if not parameters:
        return {}
    if is_per_layer(parameters):
        return {"rope_parameters": dict(parameters)}
    return {"rope_parameters": dict(parameters), **flat_rope(parameters)}
