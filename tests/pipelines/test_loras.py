"""How people write adapters: in a prompt, on a command line, and in the text of a recipe."""

import pytest

from pipelines.base import ImageRequest
from pipelines.loras import Lora, parse_lora, take_tags, with_tags
from pipelines.parameters import check
from pipelines.recipe import Recipe, RecipeError


@pytest.mark.parametrize(
    ("text", "lora"),
    [
        ("ink", Lora("ink")),
        ("ink:0.8", Lora("ink", 0.8)),
        ("ink:-1", Lora("ink", -1.0)),
        ("ink:.5", Lora("ink", 0.5)),
        ("owner/name", Lora("owner/name")),
        ("owner/name:v2", Lora("owner/name:v2")),
        ("owner/name:v2:0.5", Lora("owner/name:v2", 0.5)),
        ("ink:nan", Lora("ink:nan")),
        ("ink:1e3", Lora("ink:1e3")),
    ],
)
def test_a_scale_follows_a_colon(text: str, lora: Lora) -> None:
    assert parse_lora(text) == lora


def test_a_scale_has_a_range() -> None:
    with pytest.raises(ValueError, match="101 is out of range; -100 to 100 is allowed"):
        parse_lora("ink:101")


def test_tags_are_taken_out_of_a_prompt() -> None:
    prompt = "a boat <lora:ink:0.8>, at sea <lora:owner/name:v2> <lora:wide:-0.5>"
    loras = (Lora("ink", 0.8), Lora("owner/name:v2"), Lora("wide", -0.5))
    assert take_tags(prompt) == ("a boat, at sea", loras)
    assert take_tags("a boat < lora:ink>  <lora:>") == ("a boat < lora:ink>  <lora:>", ())


def test_a_recipe_says_its_adapters_in_both_of_its_forms() -> None:
    loras = (Lora("ink", 0.8, "0123456789ab"), Lora("wide"))
    recipe = Recipe("a boat", seed=1, width=64, height=48, steps=4, loras=loras)
    assert Recipe.from_json(recipe.to_json()) == recipe
    text = recipe.to_parameters()
    assert text.startswith("a boat <lora:ink:0.8> <lora:wide:1>\n")
    assert 'Lora hashes: "ink: 0123456789ab"' in text
    again = Recipe.from_parameters(text)
    assert (again.prompt, again.loras) == ("a boat", (Lora("ink", 0.8), Lora("wide")))
    assert with_tags(again.prompt, again.loras) == text.split("\n")[0]


def test_another_tools_scale_out_of_range_is_an_error() -> None:
    with pytest.raises(RecipeError, match="an adapter that cannot be read: 500 is out of range"):
        Recipe.from_parameters("a boat <lora:ink:500>\nSteps: 4, Seed: 1, Size: 64x64")


@pytest.mark.parametrize(
    ("lora", "message"),
    [
        (Lora("ink", 1000.0), r"loras\[0\].scale: 1000.0 is out of range; -100 to 100 is allowed"),
        (Lora("ink", float("nan")), r"loras\[0\].scale: nan is out of range"),
        (Lora("i\ud800k"), r"loras\[0\].name: it holds half a character"),
    ],
)
def test_adapters_made_in_code_have_limits_too(lora: Lora, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(ImageRequest("a boat", 1, loras=(lora,)))
