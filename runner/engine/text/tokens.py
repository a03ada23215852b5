"""Texts to token ids and back, and the checks that can refuse texts to embed or to rank before they reach the GPU.

Uses the tokenizer and the model's limits, not MLX. Safe to call from any thread; long texts would block the event loop.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.embedding.pair import Pair
from runner.errors import BadRequest, RunnerFailed
from runner.panics import is_panic
from runner.protocol.rerank import RerankRequest
from runner.protocol.text import EmbeddingRequest

UNLIMITED = 2**31


@dataclass(frozen=True)
class ChosenPrompt:
    """One of a checkpoint's prompts, and the field of the request that names it."""

    field: str
    name: str


def chosen_prompt(request: EmbeddingRequest) -> ChosenPrompt | None:
    if request.prompt_name is not None and request.input_type is not None:
        raise BadRequest("input_type: it cannot be combined with prompt_name, which says the same")
    if request.input_type is not None:
        return ChosenPrompt("input_type", request.input_type)
    return None if request.prompt_name is None else ChosenPrompt("prompt_name", request.prompt_name)


@dataclass(frozen=True)
class Embed:
    """Texts to embed."""

    prompts: list[list[int]]
    chosen: ChosenPrompt | None = None  # what all begin with, if it is not the default prompt


@dataclass(frozen=True)
class Score:
    """A text whose own tokens' log probabilities are needed, with the `top` likeliest ones."""

    prompt: list[int]
    top: int


@dataclass(frozen=True)
class Rerank:
    """A query with each of its documents."""

    pairs: list[Pair]


EmbeddingTokens = Callable[[str, ChosenPrompt | None], list[int]]
PairTokens = Callable[[str, str, int, str | None], Pair]


def no_pairs(query: str, document: str, limit: int, instruction: str | None) -> Pair:
    raise BadRequest("this model scores no documents; a reranker is needed")


class Tokens:
    """A model's tokenizer and limits: `vocab` is the number of ids that it knows, `context` the maximum text length."""

    def __init__(
        self,
        tokenizer: Any,
        vocab: int,
        context: int,
        embedding_tokens: EmbeddingTokens,
        pair_tokens: PairTokens = no_pairs,
    ) -> None:
        self.tokenizer = tokenizer
        self.vocab = vocab
        self.context = context
        self._embedding_tokens = embedding_tokens
        self._pair_tokens = pair_tokens

    def tokenize(self, text: str) -> list[int]:
        """Without special tokens."""
        return self._encode(text, special=False)

    def tokenize_with_start(self, text: str) -> list[int]:
        """With the model's beginning-of-text token, if it has one."""
        ids = self._encode(text, special=False)
        start = self.tokenizer.bos_token_id
        return ids if start is None or ids[:1] == [start] else [start, *ids]

    def detokenize(self, tokens: list[int]) -> str:
        self.check_ids(tokens, "tokens")
        try:
            return str(self.tokenizer.decode(tokens))
        except BaseException as error:
            raise tokenizer_error(error, "tokens") from error

    def embed(
        self,
        texts: list[str],
        truncate: bool = False,
        num_ctx: int | None = None,
        chosen: ChosenPrompt | None = None,
    ) -> Embed:
        context, prompts = self._context(num_ctx), []
        for index, text in enumerate(texts):
            name = f"content[{index}]" if len(texts) > 1 else "content"
            try:
                ids = self._embedding_tokens(text, chosen)
            except BaseException as error:
                raise tokenizer_error(error, "text") from error
            if not ids:
                raise BadRequest(f"{name}: the text has no tokens; at least one is needed")
            if len(ids) > context:
                if not truncate:
                    raise BadRequest(
                        f"{name}: its {len(ids)} tokens do not fit into the context of {context} tokens"
                    )
                ids = self._truncate(ids, context)
            self.check_ids(ids, name)
            prompts.append(ids)
        return Embed(prompts, chosen)

    def rerank(self, request: RerankRequest) -> Rerank:
        limit = self.context if request.truncate else UNLIMITED
        pairs = []
        for index, document in enumerate(request.documents):
            try:
                pair = self._pair_tokens(request.query, document, limit, request.instruction)
            except BaseException as error:
                raise tokenizer_error(error, "text") from error
            if len(pair.ids) > self.context:
                raise BadRequest(
                    f"documents[{index}]: with the query its {len(pair.ids)} tokens do not fit into the context of "
                    f"{self.context} tokens"
                )
            self.check_ids(pair.ids, f"documents[{index}]")
            pairs.append(pair)
        return Rerank(pairs)

    def check_ids(self, tokens: list[int], name: str) -> None:
        """Refuse ids beyond the vocabulary: they may crash the process."""
        largest = max(tokens, default=0)
        if largest >= self.vocab:
            raise BadRequest(f"{name}: {largest} is not a token of this model; ids are 0 to {self.vocab - 1}")

    def _encode(self, text: str, special: bool) -> list[int]:
        try:
            return list(self.tokenizer.encode(text, add_special_tokens=special))
        except BaseException as error:
            raise tokenizer_error(error, "text") from error

    def _context(self, num_ctx: int | None) -> int:
        """How much of the model's context a request may use."""
        return min(self.context, num_ctx) if num_ctx is not None and num_ctx > 0 else self.context

    def _truncate(self, ids: list[int], length: int) -> list[int]:
        """Truncate a text but keep the special tokens at its end: some models pool only the last one."""
        special, end = set(self.tokenizer.all_special_ids), len(ids)
        while end and ids[end - 1] in special:
            end -= 1
        tail = ids[end:][-length:]
        return ids[: length - len(tail)] + tail


def tokenizer_error(error: BaseException, what: str) -> BaseException:
    """A panic of the tokenizer as RunnerFailed; other errors unchanged."""
    return (
        RunnerFailed(f"the model's tokenizer crashed on this {what}: {error}") if is_panic(error) else error
    )
