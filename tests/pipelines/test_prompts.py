"""Prompts of every length, in every family, against the reference: what is too long is cut as it cuts."""

import pytest

from pipelines.base import ImageRequest
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn, report

LIMITS = {"klein": 512, "z-image-turbo": 512, "flux schnell": 256, "flux dev": 512}


def prompt_of(tokenizer, tokens):
    """Words that come to so many tokens, without what a tokenizer puts around them."""
    text = "a"
    while len(tokenizer.backend.encode(text, add_special_tokens=False)) < tokens:
        text += " a"
    assert len(tokenizer.backend.encode(text, add_special_tokens=False)) == tokens
    return text


@pytest.mark.reference
@pytest.mark.parametrize("tokens", [1, 75, 76, 77, 300, 600])
@pytest.mark.parametrize("name", LIMITS)
def test_a_prompt_of_so_many_tokens_draws_the_references_picture(saved, name, tokens):
    from tests.pipelines import reference

    theirs, local = saved(name)
    pipeline = pipeline_class(name).load(local)
    tokenizer = pipeline.clip_tokenizer if name.startswith("flux") else pipeline.tokenizer
    request = ImageRequest(prompt_of(tokenizer, tokens), 5, width=32, height=32, steps=2)
    events = list(pipeline.generate(request))
    assert_same(drawn(events)[0], reference.pictures(theirs, request)[0])
    cut = [warning for warning in report(events).warnings if warning.startswith("the prompt was cut")]
    assert bool(cut) == (tokens >= LIMITS[name])
