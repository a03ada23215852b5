"""Each model type that mlx-lm and transformers both have: the same logits, or refused with a reason."""

from pathlib import Path

import pytest

from .ropes import ropes
from .types import TOWERS, UNTIED, VERIFIED

pytest.importorskip("torch")
pytestmark = pytest.mark.reference


@pytest.mark.parametrize(
    ("model_type", "tied"),
    [
        (name, tied)
        for name in (*VERIFIED, *TOWERS)
        for tied in (False, True)
        if not (tied and name in UNTIED)
    ],
)
def test_a_type_is_computed_as_transformers_computes_it(model_type: str, tied: bool, tmp_path: Path) -> None:
    from .outcome import outcome

    result = outcome(model_type, tmp_path, tied)
    assert result.result == "verified", result.detail


@pytest.mark.parametrize(("model_type", "rope"), [(name, rope) for name in VERIFIED for rope in ropes(name)])
def test_every_way_to_rotate_is_transformers_own(model_type: str, rope: str, tmp_path: Path) -> None:
    from .outcome import outcome

    result = outcome(model_type, tmp_path, rope_parameters=dict(ropes(model_type)[rope]))
    assert result.result == "verified", result.detail
