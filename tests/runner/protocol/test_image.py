"""Requests for pictures: what is taken, what is ignored, and what is refused in which words."""

from typing import Any

import pytest

from runner.errors import BadRequest
from runner.protocol.image import parse_image


def refused(**body: Any) -> str:
    with pytest.raises(BadRequest) as error:
        parse_image({"prompt": "a boat", **body})
    return error.value.message


def test_a_prompt_alone_is_enough_and_leaves_everything_to_the_model() -> None:
    request, warnings = parse_image({"prompt": "a boat"})
    assert request.width is request.height is request.steps is request.seed is None
    assert (request.n, request.previews, request.format, request.stream) == (1, 0, "png", True)
    assert request.guidance is request.strength is request.negative_prompt is None
    assert warnings == []


def test_every_field_may_stand_under_options_and_the_top_level_comes_first() -> None:
    fields = {
        "width": 256,
        "height": 128,
        "steps": 9,
        "seed": 5,
        "images": ["x"],
        "negative_prompt": "fog",
        "guidance": 3.5,
        "strength": 0.5,
        "n": 2,
        "previews": 3,
        "format": "webp",
    }
    loose, _ = parse_image({"prompt": "a boat", **fields})
    under, _ = parse_image({"prompt": "a boat", "options": fields})
    assert loose == under
    assert loose.guidance == 3.5
    both, _ = parse_image({"prompt": "a boat", "width": 64, "options": {"width": 32}})
    assert both.width == 64


def test_null_and_nothing_mean_the_default() -> None:
    request, warnings = parse_image(
        {"prompt": "x", "width": None, "seed": None, "format": "", "options": None}
    )
    assert (request.width, request.seed, request.format) == (None, None, "png")
    assert warnings == []


def test_what_is_for_text_is_ignored_and_said() -> None:
    body = {"prompt": "x", "temperature": 0.5, "tools": [], "raw": True}
    _, warnings = parse_image({**body, "options": {"stop": ["."], "cfg_scale": 7, "seed": 3}})
    assert warnings == [
        "temperature is for text and was ignored",
        "tools is for text and was ignored",
        "options.cfg_scale is unknown and was ignored",
        "options.stop is for text and was ignored",
    ]


@pytest.mark.parametrize("seed", [0, -1, -(2**80), 1, 2**64 - 1])
def test_any_seed_of_64_bits_is_taken_and_those_below_one_mean_a_random_one(seed: int) -> None:
    assert parse_image({"prompt": "x", "seed": seed})[0].seed == seed


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"prompt": None}, ["prompt is missing"]),
        ({"prompt": ""}, ["prompt is empty"]),
        ({"prompt": 5}, ["prompt: 5", "text"]),
        ({"prompt": "x" * 300_000}, ["prompt", "262144"]),
        ({"prompt": "\ud800"}, ["prompt", "surrogate"]),
        ({"negative_prompt": "\udfff"}, ["negative_prompt", "surrogate"]),
        ({"width": 4097}, ["width: 4097", "4096"]),
        ({"height": -16}, ["height: -16", "0"]),
        ({"width": "512"}, ["width", '"512"', "int"]),
        ({"width": 512.5}, ["width: 512.5", "int"]),
        ({"height": True}, ["height: true", "int"]),
        ({"steps": 1001}, ["steps: 1001", "1000"]),
        ({"steps": -1}, ["steps: -1"]),
        ({"seed": 2**70}, ["seed: 1180591620717411303424", "18446744073709551615"]),
        ({"seed": 10**400}, ["seed", "bits"]),
        ({"seed": 1.5}, ["seed: 1.5"]),
        ({"guidance": float("nan")}, ["guidance", "finite"]),
        ({"guidance": -1}, ["guidance: -1"]),
        ({"strength": 1.5, "images": ["x"]}, ["strength: 1.5", "1"]),
        ({"strength": 0.5}, ["strength", "images"]),
        ({"n": 0}, ["n: 0"]),
        ({"n": 17}, ["n: 17", "16"]),
        ({"previews": -1}, ["previews: -1"]),
        ({"format": "gif"}, ["format", "gif"]),
        ({"format": {"type": "object"}}, ["format"]),
        ({"images": "abc"}, ["images", "a list"]),
        ({"images": [5]}, ["images[0]", "5"]),
        ({"images": [""] * 11}, ["images", "10"]),
        ({"options": [1]}, ["options"]),
        ({"options": {"steps": "many"}}, ["steps", "many"]),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name_value_and_limit(
    body: dict[str, Any], words: list[str]
) -> None:
    message = refused(**body)
    for word in words:
        assert word in message
    assert len(message) < 300
