"""Token ids against transformers' own tokenizers, which need no torch for it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from models.tokenizers.chat_template import ChatTemplate, TemplateFailed, TemplateMissing
from models.tokenizers.tokenizer import PromptTokenizer, TokenizerError
from tests import ROOT
from tests.models.tokenizers import toy_tokenizers

FOLDERS: dict[str, Callable[[Path], Path]] = {
    "qwen": toy_tokenizers.qwen,
    "qwen-merges": lambda folder: toy_tokenizers.qwen(folder, whole=False),
    "qwen-padded-left": lambda folder: toy_tokenizers.qwen(
        folder, padding_side="left", truncation_side="left"
    ),
    "clip-merges": toy_tokenizers.clip,
    "clip-whole": lambda folder: toy_tokenizers.clip(folder, whole=True),
    "clip-other-pad": lambda folder: toy_tokenizers.clip(folder, pad_token="!"),
    "t5": toy_tokenizers.t5,
    "t5-older": lambda folder: toy_tokenizers.t5(folder, older=True),
}
PROMPTS = {
    "nothing": "",
    "one": "a",
    "spaces": "  a  red \t circle\n\non\r\nwhite   ",
    "contractions": "It's raining, THEY'VE gone; we'll see, I'd say, don't",
    "digits": "35mm f/1.8 1234567 2024-01-02",
    "german": "Ein kühler Morgen über den Dächern, STRASSE und Straße",
    "decomposed": "cafe\u0301 u\u0308ber İstanbul ﬁne №5 ½ ①",
    "cyrillic and kana": "Утром рынок шумит 海は静かで、舟が帰ってくる。",
    "emoji": "tea 🫖 family 👨‍👩‍👧 flag 🇩🇪 👍🏽",
    "right to left": "שלום مرحبا हिन्दी",
    "odd spaces": "a\u00a0b\u2003c\u200bd\u3000e\ufefff\x00g\x1fh",
    "specials": "a <|endoftext|> b <|startoftext|>c</s><pad> <|im_end|> <extra_id_7> <think>x</think>",
    "specials in capitals": "<|ENDOFTEXT|> <|StartOfText|> </S> <PAD>",
    "unknown": "\U00013000 ᚠᛇᚻ ⠃",
    "77": "circle " * 77,
    "300": "golden hour, " * 150,
    "600": "a red lighthouse! " * 200,
    "one long word": "lighthouse" * 90,
}


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[PromptTokenizer, Any]]:
    """Each toy, loaded by Diptych and by transformers."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from transformers import AutoTokenizer

    root = tmp_path_factory.mktemp("tokenizers")
    folders = {name: make(root / name) for name, make in FOLDERS.items()}
    return {
        name: (PromptTokenizer.load(folder), AutoTokenizer.from_pretrained(folder))
        for name, folder in folders.items()
    }


@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("name", FOLDERS)
def test_ids_and_mask_equal_the_reference(name: str, prompt: str, pairs: dict[str, Any]) -> None:
    ours, reference = pairs[name]
    text = PROMPTS[prompt]
    untruncated = len(reference(text).input_ids)
    for length in (5, 77, 512):
        expected = reference(text, padding="max_length", truncation=True, max_length=length)
        actual = ours.encode(text, length)
        assert list(actual.ids) == expected.input_ids
        assert list(actual.mask) == expected.attention_mask
        assert actual.cut == max(0, untruncated - length)
    assert list(ours.encode(text, 10**6, pad=False).ids) == reference(text).input_ids


@pytest.mark.parametrize("name", ["clip-merges", "t5"])
def test_a_model_that_states_its_length_needs_none(name: str, pairs: dict[str, Any]) -> None:
    ours, reference = pairs[name]
    assert ours.max_length == reference.model_max_length
    actual = ours.encode("a red lighthouse! " * 200)
    assert len(actual.ids) == ours.max_length
    assert actual.cut > 0


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize("in_file", [True, False])
def test_a_chat_prompt_equals_the_reference(thinking: bool, in_file: bool, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    folder = toy_tokenizers.qwen(tmp_path / "tokenizer", template_file=in_file)
    messages = [{"role": "user", "content": "a <b>red</b> circle\n"}]
    expected = AutoTokenizer.from_pretrained(folder).apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=thinking
    )
    prompt = PromptTokenizer.load(folder).chat("a <b>red</b> circle\n", enable_thinking=thinking)
    assert prompt == expected
    assert ("<think>" in prompt) is not thinking


def test_one_of_several_templates_is_the_default(tmp_path: Path) -> None:
    named = [
        {"name": "tools", "template": "no"},
        {"name": "default", "template": "{{ messages[0].content }}!"},
    ]
    folder = toy_tokenizers.clip(tmp_path, chat_template=named)
    assert PromptTokenizer.load(folder).chat("hello") == "hello!"


def test_a_tokenizer_without_a_template_says_where_one_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(
        TemplateMissing, match=r"neither chat_template\.jinja nor one in tokenizer_config\.json"
    ):
        PromptTokenizer.load(toy_tokenizers.clip(tmp_path)).chat("hello")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("{% if %}", "cannot be read"),
        ("{{ raise_exception('only one message') }}", "failed: only one message"),
        ("{{ messages.__class__.__mro__ }}", "failed: .*unsafe"),
        ("{% set n = namespace(x=1) %}{% set n._y = 2 %}", "failed: a template may not set '_y'"),
        ("{{ messages[0].missing.deeper }}", "failed: .*no attribute"),
        ("{{ messages.append(1) }}", "failed: .*unsafe|not safely callable"),
        ("{% for i in range(1000000000) %}{% endfor %}", "failed: Range too big"),
    ],
)
def test_a_template_that_breaks_or_breaks_out_is_an_error(source: str, message: str) -> None:
    with pytest.raises(TemplateFailed, match=message):
        ChatTemplate(source).render([{"role": "user", "content": "x"}])


def test_templates_may_use_what_the_reference_gives_them() -> None:
    source = (
        "{% generation %}{{ bos_token }}{{ messages | tojson }}{% endgeneration %}"
        "{% for i in range(9) %}{% if i == 2 %}{% break %}{% endif %}{{ i }}{% endfor %}{{ strftime_now('%Y')[:2] }}"
    )
    actual = ChatTemplate(source, {"bos_token": "<s>"}).render([{"role": "user", "content": "é<"}])
    assert actual == '<s>[{"role": "user", "content": "é<"}]0120'


def test_files_that_are_missing_are_named(tmp_path: Path) -> None:
    folder = toy_tokenizers.t5(tmp_path)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(TokenizerError, match="has no tokenizer: tokenizer"):
        PromptTokenizer.load(folder)
    (folder / "spiece.model").write_bytes(b"\n")
    with pytest.raises(TokenizerError, match=r"only spiece\.model, .* a tokenizer\.json beside it is needed"):
        PromptTokenizer.load(folder)
    (folder / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    with pytest.raises(
        TokenizerError, match="'BertTokenizer' is not one of CLIPTokenizer, Qwen2Tokenizer, T5Tokenizer"
    ):
        PromptTokenizer.load(folder)


def test_files_that_are_broken_are_named(tmp_path: Path) -> None:
    folder = toy_tokenizers.qwen(tmp_path)
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(TokenizerError, match="cannot be read"):
        PromptTokenizer.load(folder)
    folder = toy_tokenizers.clip(tmp_path / "clip")
    (folder / "merges.txt").write_text("#version: 0.2\nnot a merge at all\n")
    with pytest.raises(TokenizerError, match="cannot be read"):
        PromptTokenizer.load(folder)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"padding_side": "top"}, "padding_side in tokenizer_config.json is 'top'"),
        ({"model_max_length": -1}, "model_max_length in tokenizer_config.json is -1"),
        ({"pad_token": 7}, "has 7 for a special token"),
        ({"added_tokens_decoder": {"x": {"content": "a"}}}, "added_tokens_decoder"),
        ({"added_tokens_decoder": {"1": {"wrong": "a"}}}, "added_tokens_decoder"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_named(
    config: dict[str, Any], message: str, tmp_path: Path
) -> None:
    with pytest.raises(TokenizerError, match=message):
        PromptTokenizer.load(toy_tokenizers.clip(tmp_path, **config))


def test_a_tokenizer_that_cannot_pad_says_so(tmp_path: Path) -> None:
    tokenizer = PromptTokenizer.load(toy_tokenizers.qwen(tmp_path, pad_token=None))
    assert tokenizer.encode("a", pad=False).ids
    with pytest.raises(TokenizerError, match="cannot pad: its pad_token is None"):
        tokenizer.encode("a", 8)


def test_half_a_character_in_a_prompt_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="half a character"):
        PromptTokenizer.load(toy_tokenizers.clip(tmp_path)).encode("a \ud83d b")


def test_older_folders_keep_their_special_tokens_in_a_file_of_their_own(tmp_path: Path) -> None:
    folder = toy_tokenizers.clip(tmp_path)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    for key in ("added_tokens_decoder", "pad_token"):
        del config[key]
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    token = {"content": "!", "lstrip": False, "rstrip": False, "single_word": False, "normalized": False}
    (folder / "special_tokens_map.json").write_text(json.dumps({"pad_token": token}))
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(folder)
    tokenizer = PromptTokenizer.load(folder)
    assert tokenizer.pad_id == reference.pad_token_id
    expected = reference("a dog! <|endoftext|>", padding="max_length", max_length=20).input_ids
    assert list(tokenizer.encode("a dog! <|endoftext|>", 20).ids) == expected


def test_prompts_need_neither_transformers_nor_mlx() -> None:
    code = (
        "import sys, models.tokenizers.tokenizer; "
        "sys.exit(any(name.split('.')[0] in ('transformers', 'mlx', 'mlx_lm', 'torch') for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0
