"""What is said of encoders before they are loaded."""

import json
from pathlib import Path

import pytest

from runner.errors import ModelNotSupported
from runner.inspect.capabilities import text_capabilities
from runner.inspect.detect import check_runnable, detect
from runner.inspect.memory import TEXT_ALLOWANCE
from runner.sources import find
from tests.models.encoders.checkpoints import EMBEDDERS, stored, words


@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_encoder_is_detected_with_its_memory_and_context(name: str, tmp_path: Path) -> None:
    folder = words(stored(name, tmp_path))
    detection = detect(str(folder))
    assert detection.supported, detection.reason
    assert detection.type == name
    assert detection.memory == (detection.bytes or 0) + TEXT_ALLOWANCE
    longest = {"roberta": 38, "xlm-roberta": 37, "modernbert": 64}
    assert detection.context_length == longest.get(name, 40)
    assert text_capabilities(find(str(folder))) == ["embedding"]
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 24}')
    assert detect(str(folder)).context_length == 24


def test_one_that_cannot_be_computed_is_refused_before_it_is_loaded(tmp_path: Path) -> None:
    folder = words(stored("bert", tmp_path))
    config = json.loads((folder / "config.json").read_text()) | {"position_embedding_type": "relative_key"}
    (folder / "config.json").write_text(json.dumps(config))
    assert not detect(str(folder)).supported
    with pytest.raises(ModelNotSupported, match="position_embedding_type of bert must be absolute"):
        check_runnable(find(str(folder)))
