"""Adapters of language models, as the command line names them."""

from pathlib import Path

import pytest

from models.files import LoraFile
from runner.errors import BadRequest
from runner.sources.loras import parse_lora


def test_a_scale_may_stand_behind_the_path(tmp_path: Path) -> None:
    plain, strange = tmp_path / "a.gguf", tmp_path / "b:c"
    plain.touch()
    strange.mkdir()
    assert parse_lora(str(plain)) == LoraFile(plain)
    assert parse_lora(f"{plain}:-0.5") == LoraFile(plain, -0.5)
    assert parse_lora(str(strange)) == LoraFile(strange)
    assert parse_lora(f"{strange}:2") == LoraFile(strange, 2.0)


@pytest.mark.parametrize(
    ("end", "words"), [(":nan", "scale"), (":1e9", "scale"), (".none", "neither a file nor a folder")]
)
def test_what_is_no_scale_and_what_is_not_there_is_refused(tmp_path: Path, end: str, words: str) -> None:
    (tmp_path / "a").touch()
    with pytest.raises(BadRequest, match=words):
        parse_lora(f"{tmp_path / 'a'}{end}")
