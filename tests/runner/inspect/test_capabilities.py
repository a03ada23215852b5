"""What a model's files say it can do is what mlx-lm finds when it loads it."""

import ast
import inspect
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlx_lm import tokenizer_utils
from mlx_lm.tokenizer_utils import load

from runner.inspect.capabilities import (
    BOTH,
    CALL_WORDS,
    CALLS,
    THOUGHTS,
    chat_template,
    image_capabilities,
    text_capabilities,
)  # fmt: skip
from runner.sources import find
from tests.runner.checkpoints import image_files, write
from tests.toys import FAMILIES, toy_text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_promise_what_the_tokenizer_holds(family: str) -> None:
    folder = toy_text(family)
    tokenizer = load(folder)
    capabilities = text_capabilities(find(f"folder:{folder}", folders=True))
    assert "completion" in capabilities
    assert ("thinking" in capabilities) == (tokenizer.think_start is not None)
    assert ("tools" in capabilities) == (tokenizer.tool_parser is not None)
    assert chat_template(find(f"folder:{folder}", folders=True)) == (tokenizer.chat_template or "")


def looked_for(function: Callable[..., Any]) -> set[str]:
    """The texts that a function of mlx-lm's looks for: those with a mark in them."""
    tree = ast.parse(inspect.getsource(function))
    texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    return {text for text in texts if isinstance(text, str) and any(mark in text for mark in '<["')}


def marks(nested: Any) -> Iterator[str]:
    for one in nested:
        yield from [one] if isinstance(one, str) else marks(one)


def test_no_mark_that_mlx_lm_knows_is_missing_here() -> None:
    ours = {*marks(CALLS), *CALL_WORDS}
    theirs = looked_for(tokenizer_utils._infer_tool_parser)
    assert theirs - ours == set()
    assert ours - theirs == {"tool_call.name"}
    thoughts = looked_for(tokenizer_utils._infer_thinking)
    # Made of the tokens that are looked for, not looked for themselves.
    made = {text for text in thoughts if "think<|sep|>" in text} | {"<|channel>thought"}
    assert thoughts - made == set(marks(THOUGHTS))
    assert looked_for(tokenizer_utils._is_xtml_vocab) == set(BOTH)


@pytest.mark.parametrize("together", CALLS)
def test_each_way_to_call_is_one_of_mlx_lms(together: tuple[str, ...]) -> None:
    tokenizer = SimpleNamespace(chat_template=" ".join(together), get_vocab=dict)
    assert tokenizer_utils._infer_tool_parser(tokenizer) is not None
    for mark in together if len(together) > 1 else ():
        alone = SimpleNamespace(chat_template=mark, get_vocab=dict)
        assert tokenizer_utils._infer_tool_parser(alone) is None


def test_a_parser_that_the_checkpoint_names_counts(tmp_path: Path) -> None:
    config: dict[str, Any] = {"chat_template": "{{ messages }}"}
    for name, value in {"config.json": {"model_type": "qwen3"}, "tokenizer_config.json": config}.items():
        (tmp_path / name).write_text(json.dumps(value))
    assert text_capabilities(find(f"folder:{tmp_path}", folders=True)) == ["completion"]
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config | {"tool_parser_type": "laguna"}))
    assert text_capabilities(find(f"folder:{tmp_path}", folders=True)) == ["completion", "tools"]


GUIDED = ("prompt", "seed", "negative_prompt", "width", "height", "steps", "guidance", "strength", "n", "seeds", "variations",
          "feather", "outpaint", "loras", "lora_tags")  # fmt: skip
LATE = ("guidance_until", "step_cache")
DISTILLED = tuple(name for name in GUIDED if name not in ("guidance", "negative_prompt"))


@pytest.mark.parametrize(
    ("class_name", "distilled", "parameters", "references"),
    [
        ("Flux2KleinPipeline", True, (*DISTILLED, "step_cache"), 10),
        ("Flux2KleinPipeline", False, (*GUIDED, *LATE), 10),
        (
            "ZImagePipeline",
            True,
            (*GUIDED, "controls", "decode", "cfg_normalization", "cfg_truncation", *LATE),
            0,
        ),
        ("FluxPipeline", False, (*GUIDED, "controls", "decode", "true_cfg_scale", *LATE), 0),
        ("Flux3ModularPipeline", False, (*GUIDED, "boxes", "guidance_until"), 10),
    ],
)
def test_the_parameters_of_a_picture_model_are_those_that_have_an_effect_on_it(
    tmp_path: Path, class_name: str, distilled: bool, parameters: tuple[str, ...], references: int
) -> None:
    content = image_files(class_name)
    content["model_index.json"]["is_distilled"] = distilled
    known = image_capabilities(find(str(write(tmp_path, content))), class_name)
    assert known is not None
    assert (known.supported_parameters, known.max_references) == (parameters, references)


def test_what_a_picture_model_takes_may_not_be_known_before_it_is_loaded(tmp_path: Path) -> None:
    broken = image_files("ZImagePipeline") | {"scheduler/scheduler_config.json": b"{"}
    broken["model_index.json"]["is_distilled"] = None
    files = find(str(write(tmp_path, broken)))
    assert image_capabilities(files, "ZImagePipeline") is None
    assert image_capabilities(files, "StableDiffusionXLPipeline") is None
