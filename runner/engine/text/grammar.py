"""Structured output: turns a JSON schema, or another grammar, into a mask over the vocabulary for each next token.

The engine is llguidance, whose wheel has no dependencies; xgrammar (0.2.8) requires torch. Unsupported parts of a schema
are an error, never silently ignored. Compiling may take long and happens off the GPU thread; a matcher belongs to one
request and is used on the GPU thread.
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection
from concurrent.futures import Future
from copy import copy
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
from llguidance import LLMatcher, LLTokenizer
from numpy.typing import NDArray
from tokenizers import Tokenizer, decoders

from runner.engine.text.json_schema import SchemaError, compile_grammar, reason, schema_grammar
from runner.engine.text.schema_trials import SchemaTrials
from runner.errors import BadRequest
from runner.panics import is_panic

T = TypeVar("T")

SCHEMA_BYTES = 128 * 1024
MAX_COMPILED = 64
# For Ollama's format "json", any object. Not a client's schema, so it needs no trial.
OBJECT = {"type": "object"}


class Matcher:
    """The position of one answer in its grammar."""

    def __init__(self, engine: LLMatcher, vocab_size: int) -> None:
        self._engine = engine
        self._words = -(-vocab_size // 32)
        # The valid bits of the last word.
        self._last_word = np.uint32((1 << (vocab_size - 32 * (self._words - 1))) - 1)

    @property
    def finished(self) -> bool:
        """Only an end-of-text token can follow, or one was accepted."""
        return bool(self._engine.is_stopped())

    def mask(self) -> NDArray[np.uint32]:
        """One bit per token, low bits first, set if the token is allowed next."""
        bits = np.frombuffer(self._do(self._engine.compute_bitmask), dtype=np.uint32)
        mask = np.zeros(self._words, dtype=np.uint32)
        mask[: bits.size] = bits[: self._words]
        mask[-1] &= self._last_word
        return mask

    def accept(self, token: int) -> None:
        """Append a token, which the last mask allowed."""
        self._do(partial(self._engine.consume_token, token))

    def rewind(self, tokens: int) -> None:
        """Take back the last tokens that were accepted."""
        self._do(partial(self._engine.rollback, tokens))

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
    """A compiled schema."""

    def __init__(self, engine: LLMatcher, vocab_size: int) -> None:
        self._engine = engine
        self._vocab_size = vocab_size

    def matcher(self) -> Matcher:
        """A new matcher for one request."""
        return Matcher(self._engine.deep_copy(), self._vocab_size)


class Grammars:
    """Compiles the schemas of requests to one model, and keeps the most recently used. Any thread may compile.

    `vocab_size` is the width of the model's logits; the tokenizer may have fewer tokens, or more.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, eos_ids: Collection[int]) -> None:
        self._tokenizer = getattr(tokenizer, "backend_tokenizer", tokenizer)
        self._vocab_size = vocab_size
        self._eos_ids = sorted(eos_ids)
        self._vocabulary: LLTokenizer | None = None
        self._vocabulary_lock = threading.Lock()
        self._compiled: OrderedDict[str, Grammar] = OrderedDict()
        self._trials = SchemaTrials()
        # Each schema is compiled once, even if several requests need it at the same time.
        self._compiling: dict[str, Future[Grammar]] = {}
        self._lock = threading.Lock()

    def compile(self, format: object) -> Grammar:
        """The grammar of a request's `format`: "json" for any object, or a JSON schema."""
        try:
            text = schema_grammar(schema_text(format))
        except SchemaError as error:
            raise BadRequest(f"format: {error}") from None
        return self.compile_text(text, trial="" if format == "json" else text)

    def compile_text(self, text: str, trial: str) -> Grammar:
        """The grammar of a text in llguidance's format. `trial`: the same without ids of special tokens, which only this
        model's vocabulary has; empty if no part of it comes from a client."""
        with self._lock:
            if text in self._compiled:
                self._compiled.move_to_end(text)
                return self._compiled[text]
            compiling = self._compiling.get(text)
            if compiling is None:
                ours = self._compiling[text] = Future()
        if compiling is not None:
            return compiling.result()
        try:
            ours.set_result(self._compile(text, trial))
        except BaseException as error:
            ours.set_exception(error)
        with self._lock:
            del self._compiling[text]
        return ours.result()

    def _compile(self, text: str, trial: str) -> Grammar:
        vocabulary = self._compiled_vocabulary()
        try:
            if trial:
                engine = self._trials.compile(vocabulary, text, trial)
            else:
                engine = compile_grammar(vocabulary, text)
        except SchemaError as error:
            raise BadRequest(f"format: {error}") from None
        grammar = Grammar(engine, self._vocab_size)
        with self._lock:
            self._compiled[text] = grammar
            while len(self._compiled) > MAX_COMPILED:
                self._compiled.popitem(last=False)
        return grammar

    @cached_property
    def special_tokens(self) -> dict[str, int]:
        """The ids of tokens that a grammar matches by their ids only, not by their text, except those that end a text."""
        vocabulary = self._compiled_vocabulary()
        added = self._tokenizer.get_added_tokens_decoder()
        return {
            token.content: id
            for id, token in added.items()
            if vocabulary.is_special_token(id) and id not in self._eos_ids
        }

    def _compiled_vocabulary(self) -> LLTokenizer:
        """Built at first use: takes up to a second for a large vocabulary."""
        with self._vocabulary_lock:
            if self._vocabulary is None:
                self._vocabulary = _vocabulary(self._tokenizer, self._vocab_size, self._eos_ids)
            return self._vocabulary


def schema_text(format: object) -> str:
    """The schema as text for the engine. Keys keep their order, which is also the order of the answer's keys."""
    if format == "json":
        format = OBJECT
    if isinstance(format, bool):
        # The engine only accepts its options along with objects.
        format = {} if format else {"allOf": [False]}
    if not isinstance(format, dict):
        raise BadRequest(
            f'format: {format!r:.80} is not allowed; it must be "json" or a JSON schema (an object or a boolean)'
        )
    try:
        text = json.dumps(format, separators=(",", ":"), allow_nan=False)
    except RecursionError:
        raise BadRequest("format: the schema is nested too deeply") from None
    except (TypeError, ValueError) as error:
        raise BadRequest(f"format: the schema is not JSON: {error}") from None
    if len(text) > SCHEMA_BYTES:
        raise BadRequest(f"format: the schema has {len(text)} bytes; at most {SCHEMA_BYTES} are allowed")
    return text


def _vocabulary(tokenizer: Any, vocab_size: int, eos_ids: list[int]) -> LLTokenizer:
    if not isinstance(tokenizer, Tokenizer):
        raise BadRequest("format: structured output needs a tokenizer.json, which this model does not have")
    size = max(tokenizer.get_vocab().values()) + 1
    ends = [token for token in eos_ids if token < min(size, vocab_size)]
    if not ends:
        raise BadRequest(
            "format: structured output needs an end-of-text token, which this model does not have"
        )
    plain = copy(tokenizer)
    plain.no_padding()
    plain.no_truncation()
    if isinstance(plain.decoder, decoders.Metaspace) and tokenizer.token_to_id("<0x41>") is None:
        # The engine supports the equivalent sequence of decoders; ByteFallback has no effect without byte tokens.
        plain.decoder = decoders.Sequence(
            [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
        )
    # Text forced by the grammar is tokenized in the middle of an answer: it must not get a leading space.
    text = plain.to_str().replace('"add_prefix_space":true', '"add_prefix_space":false')
    try:
        return LLTokenizer(text, n_vocab=max(size, vocab_size), eos_token=ends)
    except BaseException as error:
        if not (isinstance(error, ValueError) or is_panic(error)):
            raise
        raise BadRequest(
            f"format: structured output does not support this model's tokenizer: {error}"
        ) from None
