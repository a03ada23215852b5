"""Continuous batching: sequences share each forward pass, and join and leave between steps.

A step launches the next forward pass before it reads the tokens of the previous one, so the device never waits for
Python. Only first tokens, when no other sequence is decoding, are emitted right away. A grammar's mask depends on the
previous token: the forward pass is launched first, the token is read while it runs, and only the sampling waits.
"""

from collections.abc import Callable
from typing import Any

import mlx.core as mx
import mlx.nn as nn

from models.language.batch import sampling
from models.language.batch.drafts import Drafter
from models.language.batch.emission import constrained, emit
from models.language.batch.logprobs import PendingLogprobs
from models.language.batch.paged_rows import PagedRows
from models.language.batch.prefill import Prefilled
from models.language.batch.sampling import Sampler
from models.language.batch.sequence import Output, Sequence
from models.language.batch.speculation import Speculation
from models.language.batch.storage import storage_for
from models.language.batch.verification import Run
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode.decoder import slots_for
from models.language.decode.matmul import inflight_limit
from models.language.distributed.coordinator import Add, Forget, Ranks, Remove, Step
from models.vision import SPREAD
from models.vision.interface import VisionModel

CLEAR_EVERY = 512  # steps, between handing unused buffers back


class Batch:
    """`add` and `remove` at any time between steps; call `step` while `busy`."""

    def __init__(
        self,
        model: nn.Module,
        vocab: int,
        new_cache: Callable[[], Cache],
        prefix: PrefixCache,
        max_rows: int = 64,
        all_cores: Callable[[bool], None] = lambda enabled: None,
        ranks: Ranks | None = None,
        capacity: int | None = None,
        most_padding: int = 2**30,
        drafter: Drafter | None = None,
        vision: VisionModel | None = None,
    ) -> None:
        """`capacity`: tokens for which keys and values may be held at a time, None for no limit; no prompt and its answer
        may be longer. `most_padding`: tokens of padding up to which rows share a forward pass. `all_cores(True)` is called
        before prompts are processed, `all_cores(False)` after. `ranks`: the processes that the model is sharded over, if
        there are several. `drafter`: drafts tokens for rows that allow it. `vision`: of a model that sees pictures."""
        self._ranks = ranks or Ranks()
        self.preemptions = 0
        self._inflight_limit = inflight_limit(model)
        self._vocab = vocab
        self._prefix = prefix
        storage = storage_for(
            model, new_cache, prefix, capacity, most_padding, all_cores, self._ranks, vision
        )
        self._held, self._prefill, self.network = storage.rows, storage.reader, storage.network
        self.why_no_drafts = self._why_no_drafts()
        self.why_no_pictures = self._why_no_pictures(vision)
        self._speculation: Speculation | None = None
        if drafter is not None and isinstance(self._held, PagedRows) and not self.why_no_drafts:
            self._speculation = Speculation(self._held, drafter, vocab, self._launch)
        batchable = self.network is not None or kv_cache.batchable(new_cache())
        self.max_rows = max_rows if batchable else 1
        self._steps = 0
        self._reset()

    def _why_no_drafts(self) -> str:
        """Why drafted tokens cannot be verified; empty if they can."""
        if self._ranks.spread:
            return "the model is spread over several processes"
        if not isinstance(self._held, PagedRows):
            return "the keys and values of this model are not kept in blocks"
        return ""

    def _why_no_pictures(self, vision: VisionModel | None) -> str:
        """Why prompts may not have pictures; empty if they may."""
        if self._ranks.spread:
            return SPREAD
        if vision is None:
            return "this model reads only text"
        if self.network is None:
            return "the keys and values of this model are not kept in blocks"
        return ""

    def _reset(self) -> None:
        self._rows: list[Sequence] = []
        self._finished: list[Sequence] = []  # rows to be removed before the next step
        self._held.clear()
        self._inputs = mx.zeros((0,), dtype=mx.uint32)  # input of the next forward pass, not read yet
        self._logprobs: PendingLogprobs | None = None
        self._sampler: Sampler | None = None  # None: rows joined or left

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
            stop_tokens = sorted(sequence.stop_tokens)
            self._ranks.broadcast(
                Add(sequence.number, sequence.prompt, sequence.max_tokens, stop_tokens, sequence.priority)
            )
        self._prefill.add(sequence)

    def remove(self, sequence: Sequence) -> None:
        """Remove a sequence, waiting or decoding. Its cache stays in the prefix cache."""
        self._ranks.broadcast(Remove(sequence.number))
        if not self._prefill.remove(sequence) and sequence in self._rows:
            self._retire(list(dict.fromkeys([*self._finished, sequence])))

    def remove_number(self, number: int) -> None:
        """Remove a sequence named by another rank; it may have finished already."""
        for row in [*self._rows, *self._prefill.rows()]:
            if row.number == number:
                self.remove(row)

    def end(self) -> None:
        """Remove all sequences. What they hold is kept like that of texts that have ended."""
        for row in [*self._rows, *self._prefill.rows()]:
            self.remove(row)

    def clear(self) -> list[Sequence]:
        """Drop everything after a failure of unknown extent; returns the sequences that were lost."""
        lost = self._rows + self._prefill.rows()
        for row in lost:
            self._forget(row)
        self._reset()
        self._prefill.clear()
        if self.network is not None:
            self.network.clear()
        self._prefix.clear()
        mx.clear_cache()
        return lost

    def forget(self) -> None:
        """Drop what is kept of texts that have ended, on all ranks."""
        self._ranks.broadcast(Forget())
        self.forget_here()

    def forget_here(self) -> None:
        if self.network is not None:
            self.network.manager.drop_idle()
        self._prefix.clear()

    def step(self) -> list[Output]:
        """One token for every decoding sequence, and one prefill call."""
        self._ranks.broadcast(Step())
        if self._finished:
            self._retire(self._finished)
        outputs = self._decode() if self._rows else []
        self._make_room()
        room = self.max_rows - len(self._rows)
        if len(self._prefill) and room > 0:
            try:
                ready = self._prefill.run(room, busy=bool(self._rows), fits=self._held.fits)
            except Exception as error:  # a prompt that does not fit fails alone; decoding continues
                if self._ranks.spread:  # the other ranks may have succeeded: they would be out of step
                    raise
                outputs += [Output(row, None, error=str(error)) for row in self._prefill.abandon()]
                ready = None
            if ready is not None:
                self._join(ready)
        if self.network is not None and self._finished and len(self._finished) == len(self._rows):
            self._retire(self._finished)  # costs nothing, and there may be no next step for long
        self._steps += 1
        if self._steps % CLEAR_EVERY == 0:
            mx.clear_cache()
        return outputs

    # -- one step of decoding

    def _decode(self) -> list[Output]:
        speculation, outputs = self._speculation, list[Output]()
        if speculation is not None:
            if not self._settled and speculation.due(self._rows):
                outputs = self._settle()
            if self._settled and (runs := speculation.runs(self._rows, self._read())):
                return outputs + self._verify(speculation, runs)
        return outputs + (self._decode_one() if self._rows else [])

    @property
    def _settled(self) -> bool:
        """Whether the next input of every row has been read, and reported if it belongs to an answer."""
        return all(row.awaiting_first_token or row.pending_token_emitted for row in self._rows)

    def _settle(self) -> list[Output]:
        """Read and report the rows' next inputs before they are fed. Rows that end leave at once."""
        tokens, logprobs = self._read(), self._logprobs.read() if self._logprobs else {}
        outputs = []
        for row, token in zip(self._rows, tokens, strict=True):
            if not (row.awaiting_first_token or row.pending_token_emitted):
                row.pending_token_emitted = True
                outputs.append(emit(row, token, logprobs.get(row)))
        ended = [output.sequence for output in outputs if output.finish or output.error]
        if ended:
            self._retire(ended)
        return outputs

    def _read(self) -> list[int]:
        tokens: Any = self._inputs.tolist()
        return list(tokens)

    def _verify(self, speculation: Speculation, runs: list[Run]) -> list[Output]:
        outputs, pending = speculation.step(runs)
        self._inputs, self._logprobs, self._sampler = mx.array(pending, dtype=mx.uint32), None, None
        self._finished = [output.sequence for output in outputs if output.finish or output.error]
        return outputs

    def _decode_one(self) -> list[Output]:
        """One token for each row. The forward pass is launched before the tokens that it is fed with are read."""
        inputs, pending = self._inputs, self._logprobs
        held_to_grammar = any(row.matcher for row in self._rows)
        launch = any(
            row.awaiting_first_token or row.pending_token_emitted or row.generated + 1 < row.max_tokens
            for row in self._rows
        )
        all_first = all(row.awaiting_first_token for row in self._rows)
        if launch:
            fed = sampling.clamp(inputs, self._vocab)
            logits = self._held.logits(fed)
            if held_to_grammar:
                self._launch(logits)
            else:
                self._choose(logits, fed, [row.tokens for row in self._rows])
        tokens: Any = inputs.tolist()
        logprobs = pending.read() if pending else {}
        outputs = []
        for row, token in zip(self._rows, tokens, strict=True):
            if launch:
                row.tokens.append(token)
            if not (row.awaiting_first_token or row.pending_token_emitted):
                outputs.append(emit(row, token, logprobs.get(row)))
            row.awaiting_first_token = row.pending_token_emitted = False
        if launch and held_to_grammar:
            ended = {output.sequence for output in outputs if output.finish or output.error}
            logits, failed = constrained(logits, self._rows, ended, self._vocab)
            outputs += failed
            self._choose(logits, fed, [row.tokens[:-1] for row in self._rows])
        if all_first:
            outputs += self._first({output.sequence for output in outputs})
        finished = [self._rows.index(output.sequence) for output in outputs if output.finish or output.error]
        # Their outputs go out now; they are removed, and their caches kept, before the next step.
        self._finished = [self._rows[index] for index in self._ranks.agree("finished rows", finished)]
        return outputs

    def _first(self, failed: set[Sequence]) -> list[Output]:
        """Emit first tokens before the next forward pass is launched, when no other row would wait for it."""
        tokens: Any = self._inputs.tolist()
        logprobs = self._logprobs.read() if self._logprobs else {}
        drawn = [(row, token) for row, token in zip(self._rows, tokens, strict=True) if row not in failed]
        for row, _ in drawn:
            row.pending_token_emitted = True
        return [emit(row, token, logprobs.get(row)) for row, token in drawn]

    def _choose(self, logits: mx.array, inputs: mx.array, histories: list[list[int]]) -> None:
        """Start sampling the tokens that follow `inputs`. `histories`: the tokens of each row before those."""
        if not self._ranks.leads:
            self._inputs = self._ranks.tokens(logits)
            self._launch(self._inputs)
            return
        if self._sampler is None or self._sampler.age >= sampling.LIFETIME:
            drawn = [
                len(tokens) + 1 - len(row.prompt) for row, tokens in zip(self._rows, histories, strict=True)
            ]
            self._sampler = Sampler([row.sampling for row in self._rows], histories, drawn, self._vocab)
        self._inputs = self._ranks.tokens(self._sampler(logits, inputs))
        self._logprobs = PendingLogprobs.of(self._rows, logits, self._inputs)
        self._launch(self._inputs, *(self._logprobs.arrays if self._logprobs else ()))

    def _launch(self, *arrays: mx.array) -> None:
        with self._inflight_limit(slots_for(len(self._rows))):
            mx.async_eval(*arrays)

    # -- rows join and leave

    @property
    def held_tokens(self) -> int:
        """Tokens for which keys and values are held, in running texts, padding included."""
        return self._held.held_tokens

    @property
    def kept_bytes(self) -> int:
        """Of texts that have ended."""
        return self._prefix.bytes if self.network is None else self.network.idle_bytes

    @property
    def kept_entries(self) -> int:
        """Texts, or blocks of them."""
        return len(self._prefix) if self.network is None else self.network.manager.idle

    def _make_room(self) -> None:
        """If the next step takes more than there is, the youngest of the least urgent rows are computed again later."""
        while self._held.overfull:
            if self._finished:
                self._retire(self._finished)
                continue
            if not self._rows or (len(self._rows) < 2 and not self._prefill.reading):
                return
            youngest = max(self._rows, key=lambda row: (row.priority, row.number))
            pending = self._read()[self._rows.index(youngest)] if youngest.pending_token_emitted else None
            self._retire([youngest])
            youngest.start_again(pending)
            self._prefill.add_first(youngest)
            self.preemptions += 1

    def _join(self, ready: Prefilled) -> None:
        inputs = mx.array([row.text[-1] for row in ready.rows], dtype=mx.uint32)
        self._inputs = mx.concatenate([self._inputs, inputs]) if self._rows else inputs
        self._held.join(ready)
        self._rows = self._rows + ready.rows
        self._sampler = None

    def _retire(self, gone: list[Sequence]) -> None:
        for row in gone:
            self._held.remember(self._rows.index(row), row)
            self._forget(row)
        left = [i for i, row in enumerate(self._rows) if row not in gone]
        if not left:
            self._reset()
            return
        self._finished = []
        self._rows = [self._rows[i] for i in left]
        if self._logprobs is not None:
            self._logprobs = self._logprobs.without(gone)
        self._inputs = self._inputs[mx.array(left)]
        self._sampler = None
        self._held.keep(left)

    def _forget(self, row: Sequence) -> None:
        if self._speculation is not None:
            self._speculation.forget(row)
