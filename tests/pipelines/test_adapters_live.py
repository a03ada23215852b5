"""Adapters of every format against diffusers' load_lora_weights and set_adapters, live."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from pipelines.settings import Settings
from tests.pipelines.adapter_files import CASES, REQUESTS, choices, toy_of
from tests.pipelines.families import pipeline_class
from tests.pipelines.pictures import assert_same, drawn

pytestmark = pytest.mark.reference


@pytest.mark.parametrize("name", CASES)
def test_adapters_draw_what_diffusers_draws_with_them(
    name: str, saved: Callable[..., Any], tmp_path: Path
) -> None:
    pytest.importorskip("torch")
    from tests.pipelines.adapter_reference import adapted_picture

    case = CASES[name]
    toy = toy_of(case)
    theirs, model = saved(toy)
    expected = adapted_picture(theirs, REQUESTS[toy], list(case), list(case.values()))
    ours = pipeline_class(toy).load(model, Settings())
    request = replace(REQUESTS[toy], adapters=choices(case, tmp_path))
    assert_same(drawn(ours.generate(request))[0], expected)
