"""Text token by token equals the tokenizer's decoding of all tokens at once."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, pre_tokenizers

from runner.engine.text.detokenizer import Decoder, Detokenizer
from tests.runner.engine.text.vocabularies import KINDS, byte_level, sentencepiece


class Slow:
    """A tokenizer in Python: decodes and nothing else, and fails on tokens that it does not have."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer

    def decode(self, tokens: list[int]) -> str:
        if any(self.tokenizer.id_to_token(token) is None for token in tokens):
            raise KeyError(tokens)
        return self.tokenizer.decode(tokens, skip_special_tokens=False)


def pieces(tokenizer: Tokenizer | Decoder, tokens: list[int]) -> list[str]:
    detokenizer = Detokenizer(tokenizer)
    return [*(detokenizer.add(token) for token in tokens), detokenizer.finish()]


def ids(tokenizer: Tokenizer, *words: str) -> list[int]:
    actual = [tokenizer.token_to_id(word) for word in words]
    assert None not in actual, words
    return actual


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
def test_the_pieces_of_random_tokens_join_to_the_whole(kind: str, data: st.DataObject) -> None:
    tokenizer = KINDS[kind]()
    # Beyond the vocabulary, too: models pad theirs.
    tokens = data.draw(st.lists(st.integers(0, tokenizer.get_vocab_size() + 3), max_size=40))
    assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=False)


@given(st.binary(max_size=24))
def test_any_bytes_of_a_byte_level_vocabulary_join_to_the_whole(data: bytes) -> None:
    tokenizer = byte_level()
    tokens = [tokenizer.token_to_id(_letter(byte)) for byte in data]
    assert "".join(pieces(tokenizer, tokens)) == data.decode(errors="replace")


@pytest.mark.parametrize("strip", [True, False])
@given(data=st.binary(max_size=24))
def test_any_bytes_of_byte_fallback_join_to_the_whole(strip: bool, data: bytes) -> None:
    tokenizer = sentencepiece(strip)
    tokens = ids(tokenizer, *(f"<0x{byte:02X}>" for byte in data), "cat")
    assert "".join(pieces(tokenizer, tokens)) == tokenizer.decode(tokens, skip_special_tokens=False)


@given(text=st.text("a é你🙂\u0301👩\u200d \n", max_size=20))
@pytest.mark.parametrize("kind", ["byte-level", "gemma"])
def test_text_comes_back_as_it_went_in_and_never_with_half_a_character(kind: str, text: str) -> None:
    tokenizer = KINDS[kind]()
    parts = pieces(tokenizer, _by_bytes(kind, text))
    assert "".join(parts) == text
    assert not any("\ufffd" in part for part in parts)


@given(data=st.data())
@pytest.mark.parametrize("kind", KINDS)
def test_a_tokenizer_in_python_gives_the_same_text(kind: str, data: st.DataObject) -> None:
    tokenizer = KINDS[kind]()
    words = range(tokenizer.get_vocab_size())
    if kind in ("llama", "gemma"):
        # Without names a run of byte tokens cannot be told from words; whole characters are what is promised.
        words = [word for word in words if not 2 <= word < 258]
    tokens = data.draw(st.lists(st.sampled_from(list(words)), max_size=40))
    assert "".join(pieces(Slow(tokenizer), tokens)) == tokenizer.decode(tokens, skip_special_tokens=False)


def test_an_emoji_over_four_tokens_comes_with_the_last_of_them() -> None:
    tokens = [byte_level().token_to_id(_letter(byte)) for byte in "🙂".encode()]
    assert pieces(byte_level(), tokens) == ["", "", "", "🙂", ""]
    assert pieces(Slow(byte_level()), tokens) == ["", "", "", "🙂", ""]


def test_byte_tokens_are_settled_by_the_token_after_them() -> None:
    tokenizer = sentencepiece(False)
    tokens = ids(tokenizer, "<0xC3>", "<0xA9>", "cat")
    assert pieces(tokenizer, tokens) == ["", "", "écat", ""]
    # One bad byte, and the tokenizer's own decoding gives up the whole run.
    tokens = ids(tokenizer, "<0xC3>", "<0xA9>", "<0xFF>", "cat")
    assert pieces(tokenizer, tokens) == ["", "", "", "\ufffd\ufffd\ufffdcat", ""]


@pytest.mark.parametrize("kind", ["byte-level", "gemma"])
def test_a_last_character_that_stays_unfinished_is_marked(kind: str) -> None:
    tokens = _by_bytes(kind, "a🙂")[:-1]
    parts = pieces(KINDS[kind](), tokens)
    assert "\ufffd" in parts[-1]
    assert "".join(parts) == KINDS[kind]().decode(tokens)


def test_a_byte_that_fits_nothing_holds_nothing_back() -> None:
    bad, letter = ids(byte_level(), "ÿ", "a")
    assert pieces(byte_level(), [bad, letter, bad, bad]) == ["\ufffd", "a", "\ufffd", "\ufffd", ""]


def test_a_tokenizer_in_python_is_asked_about_few_tokens_at_a_time() -> None:
    class Counting(Slow):
        most = 0

        def decode(self, tokens: list[int]) -> str:
            self.most = max(self.most, len(tokens))
            return super().decode(tokens)

    counting = Counting(byte_level())
    bad, letter = ids(byte_level(), "ÿ", "a")
    tokens = [bad] * 500 + [letter] * 500
    assert "".join(pieces(counting, tokens)) == "\ufffd" * 500 + "a" * 500
    assert counting.most < 40


@pytest.mark.parametrize("kind", KINDS)
def test_tokens_beyond_the_vocabulary_say_nothing(kind: str) -> None:
    tokenizer = KINDS[kind]()
    beyond = tokenizer.get_vocab_size() + 5
    assert pieces(tokenizer, [beyond, beyond]) == ["", "", ""]
    assert pieces(Slow(tokenizer), [beyond, beyond]) == ["", "", ""]


def test_special_tokens_are_spelled_out() -> None:
    assert pieces(byte_level(), ids(byte_level(), "<|end|>", "a")) == ["<|end|>", "a", ""]


def test_a_transformers_tokenizer_is_read_through_its_backend() -> None:
    class Fast:
        backend_tokenizer = byte_level()

        def decode(self, tokens: list[int]) -> str:
            raise AssertionError("asked the slow way")

    assert pieces(Fast(), ids(byte_level(), "a")) == ["a", ""]


def _letter(byte: int) -> str:
    """How a byte-level vocabulary spells a byte: as itself where that prints, else by the next of the other letters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    if chr(byte) in alphabet:
        return chr(byte)
    others = [other for other in range(256) if chr(other) not in alphabet]
    return [letter for letter in alphabet if ord(letter) > 255][others.index(byte)]


def _by_bytes(kind: str, text: str) -> list[int]:
    """One token a byte."""
    if kind == "byte-level":
        return [byte_level().token_to_id(_letter(byte)) for byte in text.encode()]
    return ids(sentencepiece(False), *(f"<0x{byte:02X}>" for byte in text.encode()))
