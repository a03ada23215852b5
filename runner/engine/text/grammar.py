"""Structured output: a JSON schema becomes a mask over the vocabulary for each next token.

The engine is llguidance: its wheel needs nothing else, where xgrammar's (0.2.8) declares torch. What it does not
support of a schema is an error and never quietly ignored. Compiling may take long and happens off the GPU thread; a
matcher belongs to one request and is used on it.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future
from copy import copy
from functools import partial
from typing import Any, TypeVar

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders

from runner.engine.text.json_schema import SchemaError, compile_schema, reason
from runner.engine.text.schema_trials import SchemaTrials
from runner.errors import BadRequest
from runner.panics import is_panic

T = TypeVar("T")

SCHEMA_BYTES = 128 * 1024
KEPT = 64
# Ollama's word for any object; not a client's schema, so it needs no trial.
OBJECT = '{"type":"object"}'


class Matcher:
    """Where one answer stands in its grammar."""

    def __init__(self, engine: LLMatcher, vocab_size: int) -> None:
        self._engine = engine
        self._words = -(-vocab_size // 32)
        # The last word's bits that stand for no token.
        self._last_word = np.uint32((1 << (vocab_size - 32 * (self._words - 1))) - 1)

    @property
    def finished(self) -> bool:
        """Nothing but an end-of-text token can follow, or one was accepted."""
        return bool(self._engine.is_stopped())

    def mask(self) -> NDArray[np.uint32]:
        """One bit a token, low bits first, set where the token may come next."""
        bits = np.frombuffer(self._do(self._engine.compute_bitmask), dtype=np.uint32)
        mask = np.zeros(self._words, dtype=np.uint32)
        mask[: bits.size] = bits[: self._words]
        mask[-1] &= self._last_word
        return mask

    def accept(self, token: int) -> None:
        """The answer goes on with this token, which the last mask allowed."""
        self._do(partial(self._engine.consume_token, token))

    def _do(self, work: Callable[[], T]) -> T:
        try:
            result = work()
        except BaseException as error:
            if not is_panic(error):
                raise
            raise BadRequest("format: the schema is too complex") from error
        why = reason(self._engine)
        if why:
            raise BadRequest(f"format: {why}")
        return result


class Grammar:
    """A compiled format."""

    def __init__(self, engine: LLMatcher, vocab_size: int) -> None:
        self._engine = engine
        self._vocab_size = vocab_size

    def matcher(self) -> Matcher:
        """A matcher at the beginning, for one request."""
        return Matcher(self._engine.deep_copy(), self._vocab_size)


class Grammars:
    """The formats of one model's requests, the last used ones kept compiled. Any thread may compile.

    `vocab_size` is the width of the model's logits, which may be more or less than what the tokenizer knows.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Collection[int]) -> None:
        self._tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._vocab_size = vocab_size
        self._eos_ids = sorted(eos_ids)
        self._vocabulary: LLTokenizer | None = None
        self._building = threading.Lock()
        self._kept: OrderedDict[str, Grammar] = OrderedDict()
        self._trials = SchemaTrials()
        # Each schema is compiled once, whoever else asks for it in the meantime.
        self._compiling: dict[str, Future[Grammar]] = {}
        self._lock = threading.Lock()

    def compile(self, format: object) -> Grammar:
        """The grammar of a request's `format`: "json" for any object, or a JSON schema."""
        text = _schema(format)
        with self._lock:
            if text in self._kept:
                self._kept.move_to_end(text)
                return self._kept[text]
            compiling = self._compiling.get(text)
            if compiling is None:
                ours = self._compiling[text] = Future()
        if compiling is not None:
            return compiling.result()
        try:
            ours.set_result(self._compile(text))
        except BaseException as error:
            ours.set_exception(error)
        with self._lock:
            del self._compiling[text]
        return ours.result()

    def _compile(self, text: str) -> Grammar:
        vocabulary = self._compiled_vocabulary()
        try:
            compile = compile_schema if text == OBJECT else self._trials.compile
            grammar = Grammar(compile(vocabulary, text), self._vocab_size)
        except SchemaError as error:
            raise BadRequest(f"format: {error}") from None
        with self._lock:
            self._kept[text] = grammar
            while len(self._kept) > KEPT:
                self._kept.popitem(last=False)
        return grammar

    def _compiled_vocabulary(self) -> LLTokenizer:
        """Built at the first use: it takes up to a second for a large vocabulary."""
        with self._building:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer, self._vocab_size, self._eos_ids)
            return self._vocabulary


def _schema(format: object) -> str:
    """The schema's text as the engine takes it. Keys keep their order: the answer's keys follow it."""
    if format == "json":
        return OBJECT
    if isinstance(format, bool):
        # The engine takes options with objects only.
        format = {} if format else {"allOf": [False]}
    if not isinstance(format, dict):
        raise BadRequest(
            f'format: expected "json" or a JSON schema (an object or a boolean), found {format!r:.80}'
        )
    try:
        text = json.dumps(format, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise BadRequest("format: the schema is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise BadRequest(f"format: the schema is not JSON: {error}") from None
    if len(text) > SCHEMA_BYTES:
        raise BadRequest(f"format: the schema has {len(text)} bytes; at most {SCHEMA_BYTES} are accepted")
    return text


def _vocabulary(tokenizer: Any, vocab_size: int, eos_ids: list[int]) -> LLTokenizer:
    if not isinstance(tokenizer, Tokenizer):
        raise BadRequest(
            "format: this model's tokenizer has no tokenizer.json, which structured output needs"
        )
    size = max(tokenizer.get_vocab().values()) + 1
    ends = [token for token in eos_ids if token < min(size, vocab_size)]
    if not ends:
        raise BadRequest("format: this model has no end-of-text token, which structured output needs")
    plain = copy(tokenizer)
    plain.no_padding()
    plain.no_truncation()
    if isinstance(plain.decoder, decoders.Metaspace) and tokenizer.token_to_id("<0x41>") is None:
        # The engine knows the same by its parts, bytes among them: there are none here.
        plain.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    # Text that the grammar forces is cut into tokens where it stands; no space belongs before it.
    text = plain.to_str().replace('"add_prefix_space":true', '"add_prefix_space":false')
    try:
        return LLTokenizer(text, n_vocab=max(size, vocab_size), eos_token=ends)
    except BaseException as error:
        if not (isinstance(error, ValueError) or is_panic(error)):
            raise
        raise BadRequest(
            f"format: structured output does not support this model's tokenizer: {error}"
        ) from None
