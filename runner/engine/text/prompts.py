"""Requests for text to token ids: all checks that can refuse a request before it reaches the GPU.

Uses the tokenizer and the model's limits, not MLX. Safe to call from any thread; long texts would block the event loop.
"""

import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from models.language.batch.options import Drafting, Sampling
from runner.engine.text.answer_format import AnswerFormats
from runner.engine.text.chat_prompts import ChatPrompt, render_chat
from runner.engine.text.infill import InfillPrompts
from runner.engine.text.output_parser import OutputParser
from runner.engine.text.pictures import NO_PICTURES, Looked, Sight, seen_in
from runner.engine.text.required_calls import RequiredCall
from runner.engine.text.thinking_budget import BudgetedGrammar
from runner.engine.text.tokens import EmbeddingTokens, PairTokens, Score, Tokens, no_pairs
from runner.engine.text.truncation import cut, cut_note, note, truncate
from runner.errors import BadRequest
from runner.protocol.speculate import read_speculate
from runner.protocol.text import (
    LEFT_OUT,
    MAX_SEED,
    OPTION_NAMES,
    Options,
    RenderedPrompt,
    TextRequest,
    stop_strings,
)

if TYPE_CHECKING:
    from models.language.pictures.prompt import PromptPictures
    from runner.engine.text.grammar import Grammar

DEFAULT_MAX_TOKENS = 16384  # of an answer, if the request does not limit it
NO_DRAFTS = Drafting()
CONTEXT_TOKENS = 4  # enough to know whether the next one begins with a space


@dataclass(frozen=True)
class Generate:
    """A text to generate."""

    prompt: list[int]
    max_tokens: int
    sampling: Sampling
    stops: list[str]
    logprobs: int | None
    drafting: Drafting = NO_DRAFTS
    grammar: "Grammar | BudgetedGrammar | None" = None
    parser: OutputParser | RequiredCall | None = None
    context: list[int] = field(default_factory=list)  # the last tokens of a text that the answer continues
    warnings: list[str] = field(default_factory=list)
    priority: int = 0  # lower ones begin earlier
    shows_prompt: bool = False  # whether the last event has the prompt's tokens
    ignore_eos: bool = False
    ends: frozenset[int] = frozenset()  # tokens that end this text, beside those that end any
    pictures: "PromptPictures | None" = None

    @property
    def bytes(self) -> int:
        """Of the pixels that it holds until it ends."""
        return 0 if self.pictures is None else self.pictures.nbytes


class Prompts(Tokens):
    """What a language model can be asked to write; `vocab` is the width of the logits."""

    def __init__(
        self,
        tokenizer: Any,
        vocab: int,
        context: int,
        stop_tokens: Collection[int],
        embedding_tokens: EmbeddingTokens,
        why_shorter: str = "",
        drafting: Drafting = NO_DRAFTS,
        why_no_drafts: str = "",
        sight: Sight | None = None,
        pair_tokens: PairTokens = no_pairs,
    ) -> None:
        """`why_shorter`: why the context is not all of the model's, for messages. `drafting`: of requests that do not
        say; `why_no_drafts`: why there is none whatever they say."""
        super().__init__(tokenizer, vocab, context, embedding_tokens, pair_tokens)
        self._why_shorter = why_shorter
        self._default_drafting = drafting
        self._why_no_drafts = why_no_drafts
        self.sight = sight or Sight()
        self._formats = AnswerFormats(tokenizer, vocab, stop_tokens)

    def generate(
        self, request: TextRequest, unknown: Sequence[str] = (), looked: Looked = NO_PICTURES
    ) -> Generate:
        """`looked`: what was made of the request's pictures."""
        grammar, warnings = self._formats.grammar(request)
        context = self._context(request.options.num_ctx)
        warnings += [f"options.{name} is unknown and was ignored" for name in unknown]
        chat, prompt = self._prompt(request, looked)
        if request.truncate and chat:
            answer = self._max_tokens(request.options, context)
            shorter = truncate(request, len(prompt), lambda one: self._count(one, looked), context, answer)
            if shorter is not request:
                warnings.append(note(request, shorter, context))
                request = shorter
                chat, prompt = self._prompt(request, looked)
        if _fills(request):
            prompt = self._filling(request, context, warnings)
        prompt = self._behind(request.context, prompt)
        if request.truncate and len(prompt) >= context and not looked:
            whole, prompt = prompt, cut(prompt, context, request.options.num_keep)
            warnings.append(cut_note(len(whole), len(prompt), context))
        if not prompt:
            raise BadRequest("prompt: the text has no tokens; at least one is needed")
        if len(prompt) >= context:
            raise BadRequest(
                f"prompt: its {len(prompt)} tokens do not fit into the context of {context} tokens with room for an "
                f"answer{self._why_shorter and f' ({self._why_shorter})'}"
            )
        seen = seen_in(request, looked)
        self.check_ids(self.sight.without_rows(prompt) if seen else prompt, "prompt")
        tokens, pictures = self.sight.with_pictures(prompt, seen)
        drafting = self._drafting_with(request, bool(pictures), warnings)
        goes_on = chat.begun if chat else not request.prompt or request.infill is not None
        return Generate(
            prompt=tokens,
            max_tokens=self._max_tokens(request.options, context - len(prompt)),
            sampling=self._sampling(request.options),
            stops=stop_strings(request.options),
            logprobs=request.top_logprobs if request.logprobs or request.top_logprobs else None,
            drafting=drafting,
            grammar=self._formats.budgeted(request, chat, grammar, warnings),
            parser=self._formats.parser(request, chat) if request.split else None,
            context=prompt[-CONTEXT_TOKENS:] if goes_on else [],
            shows_prompt=request.context is not None and pictures is None,
            warnings=warnings,
            priority=request.options.priority,
            # A grammar decides itself when the answer ends.
            ignore_eos=request.options.ignore_eos and grammar is None,
            ends=self._infill.ends if request.infill is not None else frozenset(),
            pictures=pictures,
        )

    @cached_property
    def _infill(self) -> InfillPrompts:
        start = self.encode_prompt("")[:1]  # what the tokenizer adds; at the end of a text it may add another
        begins = start if start == [self.tokenizer.bos_token_id] else []
        return InfillPrompts(
            self.tokenizer.get_vocab(), lambda text: self._encode(text, special=False), begins
        )

    def _filling(self, request: TextRequest, context: int, warnings: list[str]) -> list[int]:
        """The prompt of a text between two others. If it may be cut, a quarter of the context stays for an answer that
        has no limit."""
        assert request.infill is not None
        prompt = request.prompt or ""
        answer = min(self._max_tokens(request.options, context), context // 4)
        filling = self._infill.prompt(
            prompt if isinstance(prompt, str) else self.encode_mixed(prompt),
            request.infill,
            context - answer if request.truncate else None,
        )
        if filling.cut:
            warnings.append(f"prompt: {filling.cut} {LEFT_OUT}; the context is {context} tokens")
        return filling.ids

    def _drafting_with(self, request: TextRequest, pictures: bool, warnings: list[str]) -> Drafting:
        """As asked for; `warnings` gets what cannot be done."""
        drafting = self._drafting(request)
        if drafting.enabled and self._why_no_drafts:
            drafting = NO_DRAFTS
            warnings.append(f"speculate is off: {self._why_no_drafts}")
        if pictures and drafting.model:
            drafting = replace(drafting, model=False)
            warnings.append("speculate: the draft model does not see pictures, so it drafts nothing here")
        return drafting

    def _behind(self, context: list[int] | None, prompt: list[int]) -> list[int]:
        """The prompt behind an earlier text, without a second beginning."""
        if not context:
            return prompt
        self.check_ids(context, "context")
        start = self.tokenizer.bos_token_id
        return [*context, *(prompt[1:] if start is not None and prompt[:1] == [start] else prompt)]

    def _prompt(self, request: TextRequest, looked: Looked) -> tuple[ChatPrompt | None, list[int]]:
        """The prompt, in which a placeholder stands for each row of a picture."""
        if _fills(request):
            return None, []  # made with the tokens around the middle
        if request.messages is None:
            return None, self.encode_mixed(request.prompt or "")
        chat = render_chat(self.tokenizer, request, self.sight.form)
        text = self.sight.expand(chat.text, seen_in(request, looked))
        return chat, self._encode(text, special=False)

    def render(self, request: TextRequest, looked: Looked = NO_PICTURES) -> RenderedPrompt:
        """The prompt of a request, however long it is."""
        chat, tokens = self._prompt(request, looked)
        if _fills(request):
            tokens = self._filling(request, self.context, [])
            return RenderedPrompt(self.detokenize(tokens), len(tokens))
        text = self.detokenize(tokens) if isinstance(request.prompt, list) else request.prompt or ""
        return RenderedPrompt(text if chat is None else chat.text, len(tokens))

    def _count(self, request: TextRequest, looked: Looked) -> int:
        return len(self._prompt(request, looked)[1])

    def _max_tokens(self, options: Options, left: int) -> int:
        limit = options.num_predict if options.num_predict is not None else options.max_tokens
        return min(left, DEFAULT_MAX_TOKENS if limit is None or limit < 1 else limit)

    def _sampling(self, options: Options) -> Sampling:
        seeded = options.seed is not None and options.seed >= 0
        return Sampling(
            temperature=options.temperature,
            top_k=max(options.top_k, 0),
            top_p=options.top_p,
            min_p=options.min_p,
            repeat_last_n=options.repeat_last_n,
            repeat_penalty=options.repeat_penalty,
            presence_penalty=options.presence_penalty,
            frequency_penalty=options.frequency_penalty,
            seed=options.seed & MAX_SEED if seeded and options.seed is not None else secrets.randbits(64),
            bias=self._bias(options),
        )

    def _drafting(self, request: TextRequest) -> Drafting:
        choice = read_speculate(request.options.speculate, "options.speculate")
        if choice == 0:
            return NO_DRAFTS
        drafting = self._default_drafting
        if choice == "lookup":
            drafting = Drafting(drafting.most, lookup=True)
        elif choice is not None:
            drafting = replace(drafting, most=choice, lookup=drafting.lookup or not drafting.model)
        if request.prediction:
            prediction = self._encode(request.prediction, special=False)
            self.check_ids(prediction, "prediction")
            drafting = replace(drafting, lookup=True, prediction=tuple(prediction))
        return drafting

    def _bias(self, options: Options) -> dict[int, float]:
        bias = {int(key): value for key, value in options.logit_bias.items()}
        for token in bias:
            if token >= self.vocab:
                raise BadRequest(
                    f"options.logit_bias: {token} is not a token of this model; ids are 0 to {self.vocab - 1}"
                )
        return bias

    # -- text to ids and back

    def encode_mixed(self, prompt: str | Sequence[int | str]) -> list[int]:
        """The ids of a prompt in which ids and texts may alternate."""
        if isinstance(prompt, str):
            return self.encode_prompt(prompt)
        ids = list[int]()
        for index, part in enumerate(prompt):
            if isinstance(part, int):
                ids.append(part)
            else:
                ids += self._encode(part, special=False) if index else self.encode_prompt(part)
        return ids

    def score(self, prompt: str | Sequence[int | str], top: int) -> Score:
        ids = self.encode_mixed(prompt)
        if not ids:
            raise BadRequest("prompt: the text has no tokens; at least one is needed")
        if len(ids) > self.context:
            raise BadRequest(
                f"prompt: its {len(ids)} tokens do not fit into the context of {self.context} tokens"
            )
        self.check_ids(ids, "prompt")
        return Score(ids, top)

    def encode_prompt(self, text: str) -> list[int]:
        """With the special tokens that the tokenizer adds by default, unless the text already begins with one."""
        start = self.tokenizer.bos_token
        special = start is None or not text.startswith(start)
        return self._encode(text, special)


def _fills(request: TextRequest) -> bool:
    """Whether the prompt is yet to be made of what comes before and after."""
    return request.infill is not None and not request.infill.rendered


def unknown_options(body: dict[str, Any]) -> list[str]:
    """Unknown names under `options`."""
    options = body.get("options")
    return (
        sorted(str(name)[:64] for name in options.keys() - OPTION_NAMES)[:16]
        if isinstance(options, dict)
        else []
    )
