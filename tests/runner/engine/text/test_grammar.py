"""Answers under a grammar are what the schema says, whatever the model would like to write."""

import copy
import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from runner.engine.text.grammar import SCHEMA_BYTES, Grammars, Matcher
from runner.engine.text.json_schema import TooSlow
from runner.engine.text.schema_trials import LONGEST, SHORT
from runner.errors import BadRequest, Busy
from tests.runner.engine.text.vocabularies import byte_level, sentencepiece, wordpiece
from tests.waiting import PATIENCE, wait_until

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 4},
        "age": {"type": "integer", "minimum": 0, "maximum": 99},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
PADDING = 41


def end(tokenizer: Tokenizer) -> int:
    return max(tokenizer.token_to_id(word) or 0 for word in ("<|end|>", "</s>"))


def fresh(tokenizer: Tokenizer) -> Grammars:
    return Grammars(tokenizer, tokenizer.get_vocab_size() + PADDING, [end(tokenizer)])


@cache
def usual() -> Grammars:
    return fresh(byte_level())


def grammars(tokenizer: Tokenizer | None = None) -> Grammars:
    return fresh(tokenizer) if tokenizer else usual()


def allowed(matcher: Matcher) -> list[int]:
    return np.nonzero(np.unpackbits(matcher.mask().view(np.uint8), bitorder="little"))[0].tolist()


def write(matcher: Matcher, tokenizer: Tokenizer, seed: int, limit: int = 4000) -> str:
    """An answer drawn blindly from what is allowed, ending as soon as it may."""
    rng, tokens = random.Random(seed), []
    while not matcher.finished:
        choice = allowed(matcher)
        token = end(tokenizer) if end(tokenizer) in choice else rng.choice(choice)
        matcher.accept(token)
        tokens.append(token)
        assert len(tokens) < limit
    return tokenizer.decode(tokens)


def refused(format: Any, tokenizer: Tokenizer | None = None) -> str:
    with pytest.raises(BadRequest) as caught:
        grammars(tokenizer).compile(format)
    assert caught.value.message.startswith("format: ")
    return caught.value.message


@pytest.mark.parametrize(
    "tokenizer", [byte_level(), sentencepiece(False)], ids=["byte-level", "byte-fallback"]
)
def test_blind_answers_under_a_schema_are_instances_of_it(tokenizer: Tokenizer) -> None:
    grammar = grammars(tokenizer).compile(PERSON)
    for seed in range(20):
        person = json.loads(write(grammar.matcher(), tokenizer, seed))
        assert list(person) == ["name", "age"]
        assert len(person["name"]) <= 4
        assert 0 <= person["age"] <= 99


@pytest.mark.parametrize("change", ["none", "spaced", "prepended", "metaspace", "normalized"])
def test_tokenizers_that_change_text_on_its_way_in_write_json_too(change: str) -> None:
    tokenizer = copy.copy(sentencepiece(True) if change in ("prepended", "metaspace") else byte_level())
    if change == "spaced":
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    elif change == "prepended":
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif change == "metaspace":
        tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=False)
    elif change == "normalized":
        tokenizer.normalizer = normalizers.NFKC()
    schema = {"type": "array", "items": {"enum": ["a b", " x", None, 1.5]}, "minItems": 3, "maxItems": 3}
    for seed in range(5):
        answer = json.loads(write(grammars(tokenizer).compile(schema).matcher(), tokenizer, seed))
        assert len(answer) == 3
        assert all(item in schema["items"]["enum"] for item in answer)


def test_a_vocabulary_of_words_with_their_spaces_writes_json_too() -> None:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    lines = [json.dumps({"name": "a b", "age": age, "x": [True, None, 1.5]}) for age in range(99)]
    special = ["<unk>", "</s>"]
    tokenizer.train_from_iterator(
        lines,
        trainers.UnigramTrainer(
            vocab_size=120, special_tokens=special, unk_token="<unk>", show_progress=False
        ),
    )
    schema = {"enum": ["a b", None, 1.5, {"age": [True]}]}
    for seed in range(5):
        answer = write(grammars(tokenizer).compile(schema).matcher(), tokenizer, seed)
        assert json.loads(answer) in schema["enum"]


def test_json_means_an_object() -> None:
    matcher = grammars().compile("json").matcher()
    assert allowed(matcher) == [byte_level().token_to_id("{")]
    for seed in range(5):
        assert isinstance(json.loads(write(grammars().compile("json").matcher(), byte_level(), seed)), dict)


def test_the_schema_true_lets_any_json_through_and_false_nothing() -> None:
    first = allowed(grammars().compile(True).matcher())
    assert {byte_level().token_to_id(char) for char in '{["-0t'} <= set(first)
    assert "schema is false" in refused(False)


def test_the_end_is_allowed_exactly_where_the_answer_may_end() -> None:
    matcher = grammars().compile({"type": "integer", "minimum": 10, "maximum": 199}).matcher()
    seen = []
    for char in "105":
        seen.append(end(byte_level()) in allowed(matcher))
        matcher.accept(byte_level().token_to_id(char))
    assert seen == [False, False, True]
    assert matcher.finished
    assert allowed(matcher) == [end(byte_level())]


def test_an_answer_that_can_only_end_is_finished_before_its_end_token() -> None:
    matcher = grammars().compile({"const": True}).matcher()
    for char in "true":
        assert not matcher.finished
        matcher.accept(byte_level().token_to_id(char))
    assert matcher.finished


def test_padded_and_special_tokens_are_never_allowed_even_in_strings() -> None:
    tokenizer = byte_level()
    matcher = grammars().compile({"type": "string"}).matcher()
    matcher.accept(tokenizer.token_to_id('"'))
    inside = allowed(matcher)
    assert len(inside) > 100
    assert max(inside) < tokenizer.get_vocab_size()
    assert end(tokenizer) not in inside


@pytest.mark.parametrize("width", [321, 324, 325, 352, 365])
def test_the_mask_is_as_wide_as_the_logits(width: int) -> None:
    assert byte_level().get_vocab_size() == 324
    matcher = Grammars(byte_level(), width, [end(byte_level())]).compile({"type": "string"}).matcher()
    matcher.accept(byte_level().token_to_id('"'))
    mask = matcher.mask()
    assert (mask.dtype, mask.shape) == (np.uint32, (-(-width // 32),))
    assert max(allowed(matcher)) < width


def test_the_keys_of_the_answer_keep_the_order_of_the_schema() -> None:
    compiled = grammars()
    for names in (["b", "a"], ["a", "b"]):
        schema = {
            "type": "object",
            "properties": {name: {"const": 1} for name in names},
            "required": ["a", "b"],
        }
        schema["additionalProperties"] = False
        assert list(json.loads(write(compiled.compile(schema).matcher(), byte_level(), 1))) == names


def test_matchers_of_one_grammar_do_not_know_each_other() -> None:
    grammar = grammars().compile(PERSON)
    one, other = grammar.matcher(), grammar.matcher()
    one.accept(byte_level().token_to_id("{"))
    assert allowed(one) != allowed(other)
    assert allowed(other) == allowed(grammar.matcher())


def test_a_token_that_was_not_allowed_is_an_error() -> None:
    matcher = grammars().compile("json").matcher()
    with pytest.raises(BadRequest, match="doesn't satisfy the grammar"):
        matcher.accept(byte_level().token_to_id("a"))


def test_gaps_between_values_come_to_an_end() -> None:
    matcher = grammars().compile("json").matcher()
    matcher.accept(byte_level().token_to_id("{"))
    blank = byte_level().token_to_id("Ċ")
    for _ in range(64):
        matcher.accept(blank)
    assert blank not in allowed(matcher)


@pytest.mark.parametrize(
    ("format", "reason"),
    [
        ("xml", 'it must be "json" or a JSON schema'),
        (3, "format: 3 is not allowed"),
        (None, "format: None is not allowed"),
        ({"type": "text"}, "Invalid type: text"),
        ({"not": {"type": "string"}}, "Unimplemented keys"),
        ({"enum": []}, "Unsatisfiable"),
        ({"type": "string", "pattern": "("}, "regex parse error"),
        ({"properties": 3}, "properties must be an object"),
        ({"$ref": "#/$defs/none"}, "does not exist"),
        ({"$ref": "https://example.com/schema.json"}, "does not fetch"),
        ({"$ref": "file:///etc/passwd"}, "does not fetch"),
        ({"const": float("nan")}, "not JSON"),
        ({"const": "\ud800"}, "hex escape"),
        ({"const": {1, 2}}, "not JSON"),
        ({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"}, "no value satisfies"),
    ],
)
def test_a_format_that_cannot_be_kept_is_refused_with_the_reason(format: Any, reason: str) -> None:
    message = refused(format)
    assert reason in message
    assert "\n" not in message


def test_a_schema_cannot_turn_json_into_something_else() -> None:
    schema = {
        **PERSON,
        "x-guidance": {"item_separator": "!", "key_separator": "?", "whitespace_pattern": "x+"},
    }
    json.loads(write(grammars().compile(schema).matcher(), byte_level(), 3))


def test_hostile_schemas_are_refused_and_the_process_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.schema_trials.LONGEST", PATIENCE)
    deep: dict[str, Any] = {"type": "string"}
    for _ in range(100_000):
        deep = {"items": deep}
    assert "nested too deeply" in refused(deep)
    shallow: dict[str, Any] = {"type": "string"}
    for _ in range(300):
        shallow = {"items": shallow}
    assert "recursion limit" in refused(shallow)
    assert str(SCHEMA_BYTES) in refused({"const": "x" * SCHEMA_BYTES})
    # Four thousand combinations make llguidance itself panic.
    fields = [
        [{"type": "object", "properties": {f"{i}{j}": {"type": "integer"}}} for j in range(4)]
        for i in range(6)
    ]
    assert "too complex" in refused({"allOf": [{"anyOf": choices} for choices in fields]})


@pytest.mark.parametrize(
    "schema", [{"const": -9223372036854775808}, {"properties": {"a": {"enum": [-9223372036854775807]}}}]
)
def test_a_schema_that_overflows_the_compilers_stack_takes_only_its_trial_down(
    schema: dict[str, Any],
) -> None:
    assert "too complex" in refused(schema)


def test_a_schema_that_compiles_for_ever_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.schema_trials.LONGEST", 0.5)
    assert "more than 0.5 seconds" in refused({"multipleOf": 2147483648})


class Trials:
    """In place of the trials: schemas whose title is "slow" take long, and are held until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, accepted: bool = True) -> None:
        self.tried: list[tuple[str, float]] = []
        self.go = threading.Event()
        self.accepted = accepted
        monkeypatch.setattr("runner.engine.text.schema_trials.try_grammar", self.try_grammar)

    def try_grammar(self, grammar: str, seconds: float) -> None:
        self.tried.append((grammar, seconds))
        if '"slow"' in grammar:
            if seconds == SHORT:
                raise TooSlow("too slow")
            assert self.go.wait(PATIENCE)
            if not self.accepted:
                raise TooSlow(f"more than {seconds:g} seconds")


def test_slow_schemas_wait_for_each_other_and_no_other_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.schema_trials.MAX_SLOW", 3)
    compiled, trials = fresh(byte_level()), Trials(monkeypatch)
    with ThreadPoolExecutor(12) as threads:
        slow = [threads.submit(compiled.compile, {"title": "slow", "const": i}) for i in range(12)]
        wait_until(lambda: sum(future.done() for future in slow) == 8)
        assert compiled.compile({"title": "quick", "const": 1}).matcher()
        trials.go.set()
        outcomes = [future.exception(PATIENCE) for future in slow]
    refusals = [error for error in outcomes if error is not None]
    assert len(refusals) == 8
    assert {type(error) for error in refusals} == {Busy}
    assert "3 slow schemas are waiting" in str(refusals[0])


def test_a_schema_that_is_over_the_limit_is_refused_at_once_the_next_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    compiled, trials = fresh(byte_level()), Trials(monkeypatch, accepted=False)
    trials.go.set()
    for _ in range(3):
        with pytest.raises(BadRequest, match="more than 2 seconds"):
            compiled.compile({"title": "slow"})
    assert [seconds for _, seconds in trials.tried] == [SHORT, LONGEST]


def test_a_schema_that_many_ask_for_at_once_is_compiled_once(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, trials = fresh(byte_level()), Trials(monkeypatch)
    with ThreadPoolExecutor(5) as threads:
        pending = [threads.submit(compiled.compile, {"title": "slow"}) for _ in range(5)]
        wait_until(lambda: len(trials.tried) == 2)
        trials.go.set()
        grammars = {id(future.result(PATIENCE)) for future in pending}
    assert len(grammars) == 1
    assert len(trials.tried) == 2


def test_a_panic_of_the_engine_ends_one_request_with_an_error() -> None:
    class PanicException(BaseException):
        """As pyo3 makes it."""

    class Engine:
        def compute_bitmask(self) -> bytes:
            raise PanicException("index out of bounds")

        def consume_token(self, token: int) -> bool:
            raise PanicException("index out of bounds")

    matcher = Matcher(Engine(), 10)  # type: ignore[arg-type]
    for work in (matcher.mask, lambda: matcher.accept(1)):
        with pytest.raises(BadRequest, match="format: the schema is too complex"):
            work()


def test_multiples_are_multiples() -> None:
    matcher = grammars().compile({"type": "integer", "multipleOf": 25}).matcher()
    ends = []
    for digit in "1275":
        matcher.accept(byte_level().token_to_id(digit))
        ends.append(end(byte_level()) in allowed(matcher))
    assert ends == [False, False, False, True]


def test_long_chains_of_references_do_not_overflow_the_stack() -> None:
    length = 2000
    links = {str(i): {"properties": {"a": {"$ref": f"#/d/{i + 1}"}}} for i in range(length)}
    grammars().compile({"d": {**links, str(length): {}}, "$ref": "#/d/0"}).matcher().mask()


def test_compiled_formats_are_kept_and_the_least_recent_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.grammar.MAX_COMPILED", 2)
    compiled = fresh(byte_level())
    first, second = compiled.compile({"const": 1}), compiled.compile({"const": 2})
    assert compiled.compile({"const": 1}) is first
    third = compiled.compile({"const": 3})
    assert compiled.compile({"const": 3}) is third
    assert compiled.compile({"const": 1}) is first
    assert compiled.compile({"const": 2}) is not second


def test_threads_may_compile_at_once_and_their_matchers_go_anywhere() -> None:
    compiled, made = fresh(byte_level()), {}

    def work(number: int) -> None:
        made[number] = compiled.compile({"const": number % 3}).matcher()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, matcher in made.items():
        assert allowed(matcher) == [byte_level().token_to_id(str(number % 3))]


def test_a_vocabulary_that_the_engine_cannot_read_is_refused() -> None:
    assert "tokenizer" in refused("json", wordpiece())
    with pytest.raises(BadRequest, match=r"needs a tokenizer\.json"):
        Grammars(object(), 10, [0]).compile("json")


def test_a_model_without_an_end_is_refused() -> None:
    with pytest.raises(BadRequest, match="needs an end-of-text token"):
        Grammars(byte_level(), 400, []).compile("json")
    with pytest.raises(BadRequest, match="needs an end-of-text token"):
        Grammars(byte_level(), 400, [399]).compile("json")
