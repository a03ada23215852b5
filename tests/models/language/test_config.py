"""config.json in every layout that transformers writes or wrote: the fields that mlx-lm reads are the same."""

from dataclasses import dataclass

import pytest

from models.language.config.frequencies import UnknownRope, frequencies
from models.language.config.prepare import prepare
from models.language.config.rope import rope_parameters
from models.language.config.standard import transformers_config
from models.language.config.support import why_unsupported


@dataclass
class Fields:
    layers_block_type: list[str] | None = None


LLAMA = {"model_type": "llama", "hidden_size": 96, "num_attention_heads": 6, "max_position_embeddings": 512}


@pytest.mark.parametrize(
    "layout",
    [
        {"rope_theta": 321.0},
        {"rope_parameters": {"rope_theta": 321.0, "rope_type": "default"}},
        {"rope_parameters": {"rope_theta": 321.0}},
    ],
)
def test_the_rope_base_is_found_in_every_layout(layout: dict[str, object]) -> None:
    prepared = prepare({**LLAMA, **layout})
    assert prepared["rope_theta"] == 321.0
    assert prepared["rope_scaling"] is None


def test_what_todays_layout_says_comes_before_what_stands_beside_it() -> None:
    config = {
        **LLAMA,
        "rope_theta": 10_000.0,
        "rope_parameters": {"rope_theta": 321.0, "rope_type": "default"},
    }
    assert prepare(config)["rope_theta"] == 321.0


@pytest.mark.parametrize("key", ["rope_scaling", "rope_parameters"])
def test_a_scaled_rotation_is_told_by_both_of_its_names(key: str) -> None:
    scaled = {"rope_type": "linear", "factor": 2.5, "rope_theta": 321.0}
    prepared = prepare({**LLAMA, "rope_theta": 321.0, key: scaled})
    assert prepared["rope_scaling"]["type"] == prepared["rope_scaling"]["rope_type"] == "linear"
    assert prepared["rope_scaling"]["factor"] == 2.5


def test_a_type_that_transformers_does_not_have_is_read_by_its_own_words() -> None:
    config = {"model_type": "nanbeige", "rope_parameters": {"rope_theta": 321.0, "rope_type": "default"}}
    assert prepare(config)["rope_theta"] == 321.0


def test_what_the_file_states_is_never_replaced() -> None:
    config = {**LLAMA, "rms_norm_eps": 3e-3, "eos_token_id": 7}
    prepared = prepare(config)
    assert config.items() <= prepared.items()


def test_parameters_of_each_type_of_layer_stay_apart() -> None:
    config = {
        "rope_parameters": {
            "full_attention": {"rope_theta": 1e6, "rope_type": "default"},
            "sliding_attention": {"rope_theta": 321.0, "rope_type": "default"},
        },
        "rope_theta": 5.0,
    }
    assert rope_parameters(config) == config["rope_parameters"]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"rope_type": "spiral"}, "'spiral'"),
        ({"rope_type": "linear", "rope_theta": 321.0}, "factor"),
        ({"rope_type": "llama3", "factor": 0, "rope_theta": 321.0}, "low_freq_factor"),
        ({"rope_type": "linear", "factor": 0, "rope_theta": 321.0}, "cannot be used"),
        ({"rope_type": "linear", "factor": "two", "rope_theta": 321.0}, "cannot be used"),
    ],
)
def test_a_rotation_that_cannot_be_computed_is_an_error_that_says_why(
    parameters: dict[str, object], message: str
) -> None:
    with pytest.raises(UnknownRope, match=message):
        frequencies(parameters, 24, 512)


def test_what_json_has_no_number_for_is_read_as_transformers_writes_it() -> None:
    config = {"model_type": "nanbeige", "time_step_limit": [0.0, {"__float__": "Infinity"}]}
    assert prepare(config)["time_step_limit"] == [0.0, float("inf")]


HYBRID = {"model_type": "qwen3_next", "num_hidden_layers": 4}


def test_a_type_for_each_layer_becomes_an_interval() -> None:
    kinds = ["linear_attention", "full_attention"] * 2
    assert prepare({**HYBRID, "layer_types": kinds})["full_attention_interval"] == 2


def test_layers_at_an_irregular_interval_are_an_error() -> None:
    kinds = ["full_attention", "linear_attention", "linear_attention", "full_attention"]
    with pytest.raises(ValueError, match="regular interval"):
        prepare({**HYBRID, "layer_types": kinds})


def test_factors_of_long_texts_have_a_scale_of_their_own() -> None:
    parameters = {
        "rope_type": "longrope",
        "rope_theta": 321.0,
        "short_factor": [1.0, 1.0],
        "long_factor": [2.0, 3.0],
        "original_max_position_embeddings": 16,
        "short_mscale": 1.2,
        "long_mscale": 1.3,
    }
    values = frequencies(parameters, 4, 64)
    assert (values.factor, values.long_factor, values.limit) == (1.2, 1.3, 16)


def test_a_file_that_states_nothing_derived_is_still_one_that_transformers_accepts() -> None:
    """JambaConfig refuses `layers_block_type`, which mlx-lm's dataclass has a field for."""
    prepared = prepare({"model_type": "jamba", "num_hidden_layers": 8}, Fields)
    assert "layers_block_type" not in prepared


def test_a_whole_number_serves_where_transformers_wants_a_float() -> None:
    config = {"model_type": "gemma2", "attn_logit_softcapping": 50, "query_pre_attn_scalar": 256}
    reference = transformers_config(config)
    assert reference is not None
    assert reference.get("attn_logit_softcapping") == 50.0


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"model_type": "minimax"}, "lightning attention"),
        ({"model_type": "gpt_oss", "swiglu_limit": 3.0}, "swiglu_limit"),
        ({"model_type": "llama", "rope_parameters": {"rope_type": "spiral"}}, "'spiral'"),
        (
            {"model_type": "mistral3", "text_config": {"model_type": "mistral", "sliding_window": 4096}},
            "sliding_window",
        ),
        ({"model_type": "llama", "rope_scaling": {"type": "spiral", "factor": 2}}, "'spiral'"),
        ({"model_type": "gemma3", "text_config": {"rope_scaling": {"rope_type": "spiral"}}}, "'spiral'"),
        (
            {"model_type": "gemma3_text", "rope_parameters": {"sliding_attention": {"rope_type": "spiral"}}},
            "'spiral'",
        ),
    ],
)
def test_what_cannot_be_computed_right_is_refused_by_its_config(
    config: dict[str, object], reason: str
) -> None:
    assert reason in (why_unsupported(config) or "")


@pytest.mark.parametrize(
    "value", [None, 5, "yarn", [], {"rope_type": 3}, {"rope_type": ["x"]}, {"full_attention": 4}]
)
def test_a_config_of_wrong_types_is_no_crash(value: object) -> None:
    for key in ("rope_parameters", "rope_scaling", "text_config"):
        why_unsupported({"model_type": "llama", key: value})
        prepare({"model_type": "llama", key: value})


@pytest.mark.parametrize(
    "config",
    [
        {"model_type": "bailing_hybrid", "group_norm_size": 4},
        {"model_type": "bitnet", "quantization_config": {"quant_method": "bitnet"}},
    ],
)
def test_the_network_of_a_name_that_mlx_lm_has_is_supported(config: dict[str, object]) -> None:
    assert why_unsupported(config) is None
    assert why_unsupported({"model_type": config["model_type"]})
