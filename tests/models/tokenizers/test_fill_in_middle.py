"""Which tokens a vocabulary has for filling in what is missing in the middle."""

import pytest

from models.tokenizers.fill_in_middle import fill_tokens

QWEN = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>")


def test_qwen_has_tokens_for_files_too() -> None:
    tokens = fill_tokens({*QWEN, "<|endoftext|>", "<|im_end|>", "a"})
    assert tokens is not None
    assert (tokens.prefix, tokens.suffix, tokens.middle) == QWEN[:3]
    assert (tokens.repository, tokens.file) == ("<|repo_name|>", "<|file_sep|>")
    assert set(tokens.ends) == {"<|endoftext|>", "<|fim_pad|>", "<|repo_name|>", "<|file_sep|>"}


@pytest.mark.parametrize(
    "words",
    [
        ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
        ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
        ("▁<PRE>", "▁<SUF>", "▁<MID>"),
        ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ],
)
def test_every_family_has_its_own(words: tuple[str, str, str]) -> None:
    tokens = fill_tokens(words)
    assert tokens is not None
    assert tokens.words == words


def test_codestral_is_told_the_suffix_first() -> None:
    tokens = fill_tokens({"[PREFIX]", "[SUFFIX]", "[MIDDLE]"})
    assert tokens is not None
    assert tokens.words == ("[PREFIX]", "[SUFFIX]")


def test_a_model_with_some_of_them_fills_in_nothing() -> None:
    assert fill_tokens({"<|fim_prefix|>", "<fim_suffix>", "▁<MID>", "[PREFIX]"}) is None
