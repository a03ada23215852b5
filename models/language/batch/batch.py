"""Sequences that share each forward pass, and join and leave between steps.

A step launches the next forward pass before it reads the tokens of the last one, so that the device never waits for
Python; only first tokens, when nothing else is under way, are told at once. Where a grammar has a say, its mask needs the
token first; then the forward pass is launched, the token read while it runs, and only the choice waits.
"""

from collections.abc import Callable
from collections.abc import Sequence as Items
from dataclasses import dataclass
from typing import Any, Protocol

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from models.language.batch import sampling
from models.language.batch.prefill import Prefill, Prefilled
from models.language.batch.sampling import Sampler
from models.language.batch.sequence import Output, Sequence, TokenLogprob
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode.decoder import Decoder
from models.language.decode.matmul import lead_of
from models.language.decode.mlx_lm_backend import MlxLmBackend
from models.language.decode.slots import slots_for
from models.language.distributed.coordinator import Add, Forget, Ranks, Remove, Step

CLEAR_EVERY = 512  # steps, between handing unused buffers back
NO_NUMBERS = (
    "the model gave logits that are no numbers: its weights are broken, or overflow in their precision "
    "(--dtype float32)"
)


@dataclass
class _Details:
    """Log probabilities of the tokens just drawn, for the rows that want them."""

    rows: list[Sequence]
    chosen: mx.array
    ids: mx.array
    values: mx.array

    def read(self) -> dict[Sequence, TokenLogprob]:
        chosen: Any = self.chosen.tolist()
        ids: Any = self.ids.tolist()
        values: Any = self.values.tolist()
        return {
            row: TokenLogprob(chosen[i], tuple(zip(ids[i], values[i], strict=True))[: row.logprobs])
            for i, row in enumerate(self.rows)
        }


class DecodeBackend(Protocol):
    """The caches of the rows that are decoding, and the network run over them."""

    def join(self, cache: Cache, rows: int) -> None:
        """Append rows: one single cache, or a batch of them."""

    def keep(self, rows: Items[int]) -> None:
        """Drop every row but these."""

    def extract(self, row: int) -> Cache:
        """A single cache of a row's, to be read and not written to."""

    def logits(self, tokens: mx.array) -> mx.array:
        """What comes after one more token of each row, [row, vocabulary]."""

    def clear(self) -> None:
        """Drop every row."""


class Batch:
    """`add` and `remove` whenever; `step` until there is nothing `busy`."""

    def __init__(
        self,
        model: nn.Module,
        vocab: int,
        new_cache: Callable[[], Cache],
        prefix: PrefixCache,
        max_rows: int = 64,
        all_cores: Callable[[bool], None] = lambda wanted: None,
        ranks: Ranks | None = None,
    ) -> None:
        """`all_cores` hears when prompts are processed, and when the server needs its share again. `ranks`: the other
        processes that hold a share of the model, if there are any."""
        self._ranks = ranks or Ranks()
        quick = Decoder.of(model, new_cache())
        self._backend: DecodeBackend = MlxLmBackend(model) if quick is None else quick
        self._lead = lead_of(model)
        self._vocab = vocab
        self._prefix = prefix
        self._prefill = Prefill(model, new_cache, prefix, all_cores, self._ranks)
        self.max_rows = max_rows if kv_cache.batchable(new_cache()) else 1
        self._steps = 0
        self._reset()

    def _reset(self) -> None:
        self._rows: list[Sequence] = []
        self._finished: list[Sequence] = []  # rows that go before the next step
        self._backend.clear()
        self._inputs = mx.zeros((0,), dtype=mx.uint32)  # what the next forward pass is fed; unread as yet
        self._details: _Details | None = None
        self._sampler: Sampler | None = None  # None: rows came or went

    def __len__(self) -> int:
        return len(self._rows) + len(self._prefill)

    @property
    def busy(self) -> bool:
        return len(self) > 0

    @property
    def decoding(self) -> int:
        return len(self._rows)

    def add(self, sequence: Sequence) -> None:
        if self._ranks.spread:
            ends = sorted(sequence.stop_tokens)
            self._ranks.broadcast(Add(sequence.number, sequence.prompt, sequence.max_tokens, ends))
        self._prefill.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Take a sequence out, wherever it is. What it has computed stays in the prefix cache."""
        self._ranks.broadcast(Remove(sequence.number))
        if not self._prefill.remove(sequence) and sequence in self._rows:
            self._retire(list(dict.fromkeys([*self._finished, sequence])))

    def remove_number(self, number: int) -> None:
        """The same for a sequence that another rank names; it may have ended already."""
        for row in [*self._rows, *self._prefill.rows()]:
            if row.number == number:
                self.remove(row)

    def clear(self) -> list[Sequence]:
        """Give up everything, after a failure whose extent is unknown; the sequences that were lost."""
        lost = self._rows + self._prefill.rows()
        self._reset()
        self._prefill.clear()
        self._prefix.clear()
        mx.clear_cache()
        return lost

    def forget(self) -> None:
        """On all ranks, nothing is kept of prompts that were read."""
        self._ranks.broadcast(Forget())
        self._prefix.clear()

    def step(self) -> list[Output]:
        """One token for every decoding sequence, and one turn of prompt processing."""
        self._ranks.broadcast(Step())
        if self._finished:
            self._retire(self._finished)
        outputs = self._decode() if self._rows else []
        room = self.max_rows - len(self._rows)
        if len(self._prefill) and room > 0:
            try:
                ready = self._prefill.run(room, busy=bool(self._rows))
            except Exception as error:  # a prompt that is too much costs itself, not those who are writing
                if self._ranks.spread:  # unless others have done what failed here
                    raise
                outputs += [Output(row, None, error=str(error)) for row in self._prefill.abandon()]
                ready = None
            if ready is not None:
                self._join(ready)
        self._steps += 1
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()
        return outputs

    # -- one step of decoding

    def _decode(self) -> list[Output]:
        inputs, details = self._inputs, self._details
        constrained = any(row.matcher for row in self._rows)
        launch = any(
            row.awaiting_first_token or row.pending_token_emitted or row.generated + 1 < row.max_tokens
            for row in self._rows
        )
        beginning = all(row.awaiting_first_token for row in self._rows)
        if launch:
            known = sampling.fed(inputs, self._vocab)
            logits = self._backend.logits(known)
            if constrained:
                self._begin(logits)
            else:
                self._choose(logits, known, [row.tokens for row in self._rows])
        read: Any = inputs.tolist()
        logprobs = details.read() if details else {}
        outputs = []
        for row, token in zip(self._rows, read, strict=True):
            if launch:
                row.tokens.append(token)
            if not (row.awaiting_first_token or row.pending_token_emitted):
                outputs.append(self._emit(row, token, logprobs.get(row)))
            row.awaiting_first_token = row.pending_token_emitted = False
        if launch and constrained:
            ended = {output.sequence for output in outputs if output.finish or output.error}
            logits, failed = self._masked(logits, ended)
            outputs += failed
            self._choose(logits, known, [row.tokens[:-1] for row in self._rows])
        if beginning:
            outputs += self._first({output.sequence for output in outputs})
        finished = [self._rows.index(output.sequence) for output in outputs if output.finish or output.error]
        # They are told now, and taken out before the next step: keeping what they computed can wait.
        self._finished = [self._rows[index] for index in self._ranks.agree("who has finished", finished)]
        return outputs

    def _first(self, failed: set[Sequence]) -> list[Output]:
        """The first tokens, where nobody else is waiting: told at once, before the next forward pass is made."""
        read: Any = self._inputs.tolist()
        logprobs = self._details.read() if self._details else {}
        drawn = [(row, token) for row, token in zip(self._rows, read, strict=True) if row not in failed]
        for row, _ in drawn:
            row.pending_token_emitted = True
        return [self._emit(row, token, logprobs.get(row)) for row, token in drawn]

    def _emit(self, row: Sequence, token: int, logprob: TokenLogprob | None) -> Output:
        if token == sampling.NO_TOKEN:
            row.has_nan = True
            return Output(row, None, error=NO_NUMBERS)
        if row.matcher is not None and token not in row.stop_tokens:
            try:
                row.matcher.accept(token)
            except Exception as error:  # a grammar's fault ends its own request alone
                return Output(row, None, error=f"the grammar failed: {error}")
        if token in row.stop_tokens:
            return Output(row, None, finish="stop")
        row.generated += 1
        if row.matcher is not None and row.matcher.finished:
            return Output(row, token, logprob, finish="stop")
        return Output(row, token, logprob, finish="length" if row.generated >= row.max_tokens else None)

    def _masked(self, logits: mx.array, ended: set[Sequence]) -> tuple[mx.array, list[Output]]:
        masks = np.full((len(self._rows), (self._vocab + 31) // 32), 0xFFFFFFFF, dtype=np.uint32)
        failed = []
        for i, row in enumerate(self._rows):
            if row.matcher is None or row in ended:
                continue
            try:
                mask = row.matcher.mask()
                if not mask.any():
                    raise ValueError("no token can follow")
                masks[i] = mask
            except Exception as error:  # as above
                failed.append(Output(row, None, error=f"the grammar failed: {error}"))
        return sampling.apply_bitmask(logits, masks), failed

    def _choose(self, logits: mx.array, inputs: mx.array, before: list[list[int]]) -> None:
        """Draw what comes after `inputs`, and set it going on the device. `before`: the tokens fed before those."""
        if not self._ranks.leads:
            self._inputs = self._ranks.tokens(logits)
            self._begin(self._inputs)
            return
        if self._sampler is None or self._sampler.age >= sampling.LIFETIME:
            drawn = [len(fed) + 1 - len(row.prompt) for row, fed in zip(self._rows, before, strict=True)]
            self._sampler = Sampler([row.sampling for row in self._rows], before, drawn, self._vocab)
        self._inputs = self._ranks.tokens(self._sampler(logits, inputs))
        wanting = [i for i, row in enumerate(self._rows) if row.logprobs is not None]
        self._details = None
        if wanting:
            rows = [self._rows[i] for i in wanting]
            every = len(wanting) == len(self._rows)
            index = mx.array(wanting)
            picked, tokens = (logits, self._inputs) if every else (logits[index], self._inputs[index])
            top = max(row.logprobs or 0 for row in rows)
            self._details = _Details(rows, *sampling.logprobs(picked, sampling.fed(tokens, self._vocab), top))
            self._begin(self._inputs, self._details.chosen, self._details.ids, self._details.values)
        else:
            self._begin(self._inputs)

    def _begin(self, *computed: mx.array) -> None:
        with self._lead(slots_for(len(self._rows))):
            mx.async_eval(*computed)

    # -- rows come and go

    def _join(self, ready: Prefilled) -> None:
        inputs = mx.array([row.prompt[-1] for row in ready.rows], dtype=mx.uint32)
        self._inputs = mx.concatenate([self._inputs, inputs]) if self._rows else inputs
        self._backend.join(ready.cache, len(ready.rows))
        self._rows = self._rows + ready.rows
        self._sampler = None

    def _retire(self, gone: list[Sequence]) -> None:
        for row in gone:
            self._remember(row)
        left = [i for i, row in enumerate(self._rows) if row not in gone]
        if not left:
            self._reset()
            return
        self._finished = []
        self._rows = [self._rows[i] for i in left]
        if self._details is not None:
            self._details = _without(self._details, gone)
        self._inputs = self._inputs[mx.array(left)]
        self._sampler = None
        self._backend.keep(left)

    def _remember(self, row: Sequence) -> None:
        if self._prefix.max_bytes and not row.has_nan:
            held = self._backend.extract(self._rows.index(row))
            self._prefix.insert(row.tokens, held, len(row.prompt))


def _without(details: _Details, gone: list[Sequence]) -> _Details | None:
    left = [i for i, row in enumerate(details.rows) if row not in gone]
    if not left:
        return None
    index = mx.array(left)
    return _Details(
        [details.rows[i] for i in left], details.chosen[index], details.ids[index], details.values[index]
    )
