"""One sequence in the batch: its request and its progress."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from itertools import count
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from models.language.batch.options import Drafting, Sampling
from models.language.paged.table import Table
from models.language.pictures.prompt import PromptPictures

_numbers = count()
Finish = Literal["stop", "length"]


class Matcher(Protocol):
    """Says which tokens are allowed next (a grammar)."""

    def mask(self) -> npt.NDArray[np.uint32]:
        """One bit per token id, lowest bit first."""

    def accept(self, token: int) -> None: ...

    def rewind(self, tokens: int) -> None:
        """Take back the last tokens that were accepted."""

    @property
    def finished(self) -> bool: ...


@dataclass(frozen=True)
class TokenLogprob:
    """A chosen token's log probability under the model, and the likeliest alternatives."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(eq=False)
class Sequence:
    """The caller has checked that `prompt` is not empty, that it ends with a word, and that its ids are within the
    vocabulary or tokens of `pictures`."""

    id: Hashable
    prompt: list[int]
    max_tokens: int
    sampling: Sampling = field(default_factory=Sampling)
    stop_tokens: frozenset[int] = frozenset()
    logprobs: int | None = None  # number of alternatives; None: no log probabilities at all
    matcher: Matcher | None = None
    drafting: Drafting = field(default_factory=Drafting)
    on_started: Callable[[], None] | None = None  # called when its prefill begins
    pictures: PromptPictures | None = None  # whose rows the prompt has tokens of
    priority: int = 0  # lower ones are read earlier, and give their memory back later

    number: int = field(default_factory=lambda: next(_numbers))  # identifies it across ranks

    # Progress.
    resumed: list[int] | None = None  # what is read instead of the prompt after it was preempted
    tokens: list[int] = field(default_factory=list)  # in its cache
    table: Table | None = None  # of its blocks, if its cache is made of these
    cached: int = 0  # prompt tokens taken from the prefix cache
    generated: int = 0
    drafted: int = 0  # tokens that were drafted and checked
    awaiting_first_token: bool = True  # its next input is the last prompt token
    pending_token_emitted: bool = False  # its pending input token was already reported to the client
    has_nan: bool = False  # its logits contained NaN or infinity

    @property
    def text(self) -> list[int]:
        """The tokens to be read before the next one is drawn: the prompt, and after a preemption the answer so far."""
        return self.prompt if self.resumed is None else self.resumed

    def start_again(self, pending: int | None = None) -> None:
        """Its keys and values are gone: everything up to its last token is to be read again. `pending`: the token that
        comes next, if it was already reported."""
        if not self.awaiting_first_token:
            self.resumed = list(self.tokens) if pending is None else [*self.tokens, pending]
        self.tokens = []
        self.awaiting_first_token, self.pending_token_emitted = True, False


@dataclass(frozen=True)
class Output:
    """The result of one step for one sequence. `token` is None if only the end is reported."""

    sequence: Sequence
    token: int | None
    logprob: TokenLogprob | None = None
    finish: Finish | None = None
    error: str | None = None
    accepted: bool = False  # the token was drafted before the model chose it
