"""What a model's files say it can do is what mlx-lm finds when it loads it."""

import pytest
from mlx_lm.tokenizer_utils import load

from runner.capabilities import chat_template, text_capabilities
from runner.sources import find
from tests.toys import FAMILIES, toy_text


@pytest.mark.parametrize("family", FAMILIES)
def test_the_files_promise_what_the_tokenizer_holds(family: str) -> None:
    folder = toy_text(family)
    tokenizer = load(folder)
    found = text_capabilities(find(f"folder:{folder}", folders=True))
    assert "completion" in found
    assert ("thinking" in found) == (tokenizer.think_start is not None)
    assert ("tools" in found) == (tokenizer.tool_parser is not None)
    assert chat_template(find(f"folder:{folder}", folders=True)) == (tokenizer.chat_template or "")
