"""The types of rotary embeddings that each model type is compared with."""

from collections.abc import Mapping

from .recipes import SETTINGS, Settings
from .types import TOWERS

# Rope types of transformers other than the default, tried on each model type with rope_parameters.
ROPES: Mapping[str, Settings] = {
    "linear": {"rope_type": "linear", "rope_theta": 321.0, "factor": 2.5},
    "dynamic": {"rope_type": "dynamic", "rope_theta": 321.0, "factor": 2.5},
    "llama3": {
        "rope_type": "llama3",
        "rope_theta": 321.0,
        "factor": 6.0,
        "low_freq_factor": 1.5,
        "high_freq_factor": 5.0,
        "original_max_position_embeddings": 120,
    },
    "yarn": {
        "rope_type": "yarn",
        "rope_theta": 321.0,
        "factor": 5.0,
        "beta_fast": 24.0,
        "beta_slow": 2.0,
        "original_max_position_embeddings": 100,
    },
}


def longrope(pairs: int, trained: int) -> Settings:
    """With other frequencies for texts of more than `trained` tokens."""
    return {
        "rope_type": "longrope",
        "rope_theta": 321.0,
        "factor": 4.0,
        "short_factor": [1.0 + 0.1 * i for i in range(pairs)],
        "long_factor": [1.5 + 0.3 * i for i in range(pairs)],
        "original_max_position_embeddings": trained,
    }


# Verified types that do not support one rope_parameters of every type.
WITHOUT_ROPE = (
    "mistral4",
    "dbrx",
    "falcon_mamba",
    "gemma4_text",
    "gpt2",
    "gpt_bigcode",
    "gptj",
    "jamba",
    "kimi_linear",
    "mamba",
    "mamba2",
    "nemotron_h",
)

# Types that transformers supports with these rope types only, other than the default.
OWN_ROPES: Mapping[str, Mapping[str, Settings]] = {
    "minicpm3": {**ROPES, "longrope, short": longrope(4, 512), "longrope, long": longrope(4, 20)},
    "ministral3": {},
    "recurrent_gemma": {},
    "phi3": {"longrope, short": longrope(8, 512), "longrope, long": longrope(8, 20)},
    # transformers uses the short factors for long texts too, unlike the model's own code.
    "phimoe": {"longrope, short": {**longrope(8, 512), "short_mscale": 1.3, "long_mscale": 1.4}},
}


def ropes(model_type: str) -> Mapping[str, Settings]:
    """Rope parameters by the names of their types; if layer types differ, for layers with full attention."""
    if model_type in WITHOUT_ROPE or model_type in TOWERS:
        return {}
    default = SETTINGS.get(model_type, {}).get("rope_parameters", {})
    ways = OWN_ROPES.get(model_type, ROPES)
    if "full_attention" in default:
        full = default["full_attention"]
        return {name: {**default, "full_attention": {**full, **way}} for name, way in ways.items()}
    return ways
