"""Pictures against the reference's, stored: what each family draws without torch."""

import pytest

from pipelines import PIPELINES
from pipelines.settings import Settings
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn
from tests.pipelines.stored import STORED, stored_pictures
from tests.pipelines.toys import TOYS


@pytest.mark.parametrize("name", STORED)
def test_a_request_draws_the_stored_picture(toy, name):
    stored = STORED[name]
    pipeline = pipeline_class(stored.toy).load(toy(stored.toy), Settings())
    for ours, theirs in zip(drawn(pipeline.generate(stored.request)), stored_pictures(name), strict=True):
        assert_same(ours, theirs)


@pytest.mark.parametrize("name", TOYS)
def test_every_toy_is_of_a_registered_class(name):
    assert TOYS[name].pipeline in PIPELINES
