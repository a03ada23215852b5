"""Toy language models load, write lively text, and speak any language."""

import json
import subprocess
import sys
from pathlib import Path

import mlx_lm
import pytest
from mlx_lm.tokenizer_utils import BPEStreamingDetokenizer, SPMStreamingDetokenizer

from tests import ROOT
from tests.toys import FAMILIES, make_text_model, toy_text

TEXT = "Hello, größer 海は 🫖 é́ привет"


def greedy(folder: Path, prompt: str, length: int = 40) -> list[int]:
    model, tokenizer = mlx_lm.load(str(folder))
    return [answer.token for answer in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=length)]


@pytest.mark.parametrize("bits", [None, 4, 8])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_toy_of_every_family_loads_and_does_not_repeat_one_token(family: str, bits: int | None) -> None:
    tokens = greedy(toy_text(family, bits=bits), "The harbour wakes")
    assert len(tokens) == 40, "its text ended, though it was made not to"
    assert len(set(tokens)) > 15


@pytest.mark.parametrize("family", FAMILIES)
def test_its_text_depends_on_all_of_the_prompt(family: str) -> None:
    folder = toy_text(family)
    assert greedy(folder, "One, two, three, four") != greedy(folder, "Six, two, three, four")


@pytest.mark.parametrize("family", FAMILIES)
def test_its_tokenizer_gives_any_text_back(family: str) -> None:
    _, tokenizer = mlx_lm.load(str(toy_text(family)))
    ids = tokenizer.encode(TEXT, add_special_tokens=False)
    assert tokenizer.decode(ids) == TEXT
    detokenizer = tokenizer.detokenizer
    for token in ids:
        detokenizer.add_token(token)
    detokenizer.finalize()
    assert detokenizer.text == TEXT
    kind = SPMStreamingDetokenizer if family in ("mistral", "gemma3") else BPEStreamingDetokenizer
    assert isinstance(detokenizer, kind)


@pytest.mark.parametrize("family", FAMILIES)
def test_its_chat_template_uses_whole_special_tokens(family: str) -> None:
    _, tokenizer = mlx_lm.load(str(toy_text(family)))
    messages = [{"role": "user", "content": "Hi"}]
    ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
    assert any(token in tokenizer.all_special_ids for token in ids)
    assert len(ids) < 20


def test_a_qwen_toy_knows_tools_and_thoughts() -> None:
    _, tokenizer = mlx_lm.load(str(toy_text("qwen3")))
    assert tokenizer.has_tool_calling
    assert tokenizer.has_thinking
    tool = {"type": "function", "function": {"name": "tide", "parameters": {}}}
    text = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Hi"}], tools=[tool], add_generation_prompt=True, tokenize=False
    )
    assert '"name": "tide"' in text


def test_a_toy_can_be_made_to_end(tmp_path: Path) -> None:
    folder = make_text_model(tmp_path, end_bias=24.0)
    ends = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    tokens = greedy(folder, "The harbour wakes", 400)
    assert len(tokens) < 400
    assert tokens[-1] in ends


def test_the_same_seed_makes_the_same_files(tmp_path: Path) -> None:
    first, second = (make_text_model(tmp_path / name, "llama", seed=3) for name in ("a", "b"))
    for file in first.iterdir():
        assert file.read_bytes() == (second / file.name).read_bytes()
    other = make_text_model(tmp_path / "c", "llama", seed=4)
    assert (other / "model.safetensors").read_bytes() != (first / "model.safetensors").read_bytes()


def test_an_unknown_family_is_named_with_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"'lama'.*llama, qwen3"):
        make_text_model(tmp_path, "lama")


def test_the_command_writes_one(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "tests.toys",
        str(tmp_path / "toy"),
        "--family",
        "gemma3",
        "--quantize",
        "4",
    ]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a gemma3 of" in done.stdout
    assert len(greedy(tmp_path / "toy", "Hello", 3)) == 3
