"""Thoughts of at most so many tokens: when they are used up, the thought is closed, and the answer goes on.

Works as a grammar does, by what is allowed next: everything, until the tokens that close a thought are due. Tokens that were
drafted can be taken back.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from runner.engine.text.grammar import Grammar


class AnswerMatcher(Protocol):
    """The position of an answer in what it is held to."""

    def mask(self) -> NDArray[np.uint32]: ...
    def accept(self, token: int) -> None: ...
    def rewind(self, tokens: int) -> None: ...
    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class ThinkingTokens:
    """`starts` and `ends` enclose a thought; `closing` is written to end one early."""

    starts: tuple[int, ...]
    ends: tuple[int, ...]
    closing: tuple[int, ...]


@dataclass(frozen=True)
class BudgetedGrammar:
    """`thinking`: the prompt has begun a thought. `grammar`: what else the answer is held to."""

    tokens: ThinkingTokens
    budget: int
    thinking: bool
    vocab: int
    grammar: "Grammar | None" = None

    def matcher(self) -> "ThinkingBudget":
        return ThinkingBudget(self, self.grammar.matcher() if self.grammar is not None else None)


@dataclass(frozen=True)
class _State:
    """`closed`: how many tokens of the closing were written; None while there is no need for it."""

    thinking: bool
    used: int = 0
    closed: int | None = None


class ThinkingBudget:
    """The position of one answer."""

    def __init__(self, of: BudgetedGrammar, inner: AnswerMatcher | None) -> None:
        self._of = of
        self._inner = inner
        self._written: list[int] = []
        self._states = [self._bounded(_State(of.thinking))]

    @property
    def finished(self) -> bool:
        return self._inner is not None and self._inner.finished

    def mask(self) -> NDArray[np.uint32]:
        allowed = self._everything() if self._inner is None else self._inner.mask()
        due = self._due()
        if due is None:
            return allowed
        only = np.zeros_like(allowed)
        only[due // 32] = np.uint32(1 << due % 32)
        # What else holds for the answer wins: it must not end here for lack of a token that is allowed.
        return only if (only & allowed).any() else allowed

    def accept(self, token: int) -> None:
        if self._inner is not None:
            self._inner.accept(token)
        self._written.append(token)
        self._states.append(self._bounded(self._next(token)))

    def rewind(self, tokens: int) -> None:
        if self._inner is not None:
            self._inner.rewind(tokens)
        if tokens:
            del self._written[-tokens:], self._states[-tokens:]

    def _due(self) -> int | None:
        closed = self._states[-1].closed
        return None if closed is None else self._of.tokens.closing[closed]

    def _next(self, token: int) -> _State:
        state, tokens = self._states[-1], self._of.tokens
        if state.closed is not None and token == tokens.closing[state.closed]:
            closed = state.closed + 1
            done = closed == len(tokens.closing)
            return _State(not done, state.used, None if done else closed)
        if not state.thinking:
            return _State(self._just_wrote(tokens.starts), state.used)
        return _State(not self._just_wrote(tokens.ends), state.used + 1)

    def _bounded(self, state: _State) -> _State:
        """A thought without any budget left is closed."""
        used_up = state.thinking and state.closed is None and state.used >= self._of.budget
        return _State(True, state.used, 0) if used_up else state

    def _just_wrote(self, marker: Sequence[int]) -> bool:
        return bool(marker) and tuple(self._written[-len(marker) :]) == tuple(marker)

    def _everything(self) -> NDArray[np.uint32]:
        mask = np.full(-(-self._of.vocab // 32), 0xFFFFFFFF, dtype=np.uint32)
        if self._of.vocab % 32:
            mask[-1] = np.uint32((1 << self._of.vocab % 32) - 1)
        return mask
