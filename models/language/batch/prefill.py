"""Prompts to caches: short prompts are batched, long ones go in chunks, so that no request waits long for another."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import mlx.core as mx
import mlx.nn as nn

from models.kernels.inflight import limit_inflight_memory
from models.language.batch.prefill_budget import PrefillCostModel
from models.language.batch.sequence import Sequence
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.cache.padding import masks_padding
from models.language.cache.prefix_cache import PrefixCache
from models.language.corrections.rope import prompt_lengths, switching_length
from models.language.decode.attention import length_bucket, round_up
from models.language.decode.matmul import ROOM
from models.language.decode.row_groups import padded
from models.language.distributed.coordinator import Ranks
from models.waiting_queue import WaitingQueue

GROUP = 32
SMALLEST, LARGEST = 32, 2048
# How long one call may take, in seconds, while other sequences decode and while none does. A long prompt's later calls take
# half as long again, before the estimate follows, and a step of the others comes on top.
PREFILL_BUDGET_BUSY_S, PREFILL_BUDGET_IDLE_S = 0.04, 0.4
# A prompt with this many new tokens goes into the prefix cache at once, not only when its answer is finished.
WORTH_KEEPING = 256


@dataclass
class Prefilled:
    """Sequences whose prompts have been read except for the last token. `cache`, single or a batch, holds them, unless they
    have tables."""

    rows: list[Sequence]
    cache: Cache
    single: bool


class PrefillBudget:
    """How many tokens one call may feed, by how long earlier calls took."""

    def __init__(self, ranks: Ranks) -> None:
        self._ranks = ranks
        self.clear()

    def clear(self) -> None:
        self._cost = PrefillCostModel()

    def learn(self, tokens: int, seconds: float) -> None:
        self._cost.learn(tokens, seconds)

    def tokens(self, busy: bool) -> int:
        """`busy`: while other sequences decode. The same on all ranks."""
        [budget] = self._ranks.agree("prefill budget", [self._tokens(busy)])
        return budget

    def _tokens(self, busy: bool) -> int:
        estimate = self._cost.tokens_in(PREFILL_BUDGET_BUSY_S if busy else PREFILL_BUDGET_IDLE_S)
        if estimate is None:
            return SMALLEST if busy else LARGEST // 4
        tokens = int(min(max(estimate, SMALLEST), LARGEST))
        return tokens - tokens % length_bucket(tokens)  # the first chunk of each new length is slower


@dataclass
class _Long:
    row: Sequence
    cache: Cache


class Prefill:
    def __init__(
        self,
        model: nn.Module,
        new_cache: Callable[[], Cache],
        prefix: PrefixCache,
        all_cores: Callable[[bool], None],
        ranks: Ranks,
    ) -> None:
        self._model = model
        self._new_cache = new_cache
        self._prefix = prefix
        prefix.switches_at = switching_length(model)
        self._all_cores = all_cores
        self._most = GROUP if masks_padding(model, new_cache()) else 1
        self._waiting: WaitingQueue[Sequence] = WaitingQueue(lambda row: row.priority)
        self._long: _Long | None = None
        self._long_ran_last = False
        self._budget = PrefillBudget(ranks)
        self._working: list[Sequence] = []

    def __len__(self) -> int:
        return len(self._waiting) + (self._long is not None)

    def add(self, row: Sequence) -> None:
        self._waiting.add(row)

    def add_first(self, row: Sequence) -> None:
        """A row that was decoding already."""
        self._waiting.add_first(row)

    @property
    def held_tokens(self) -> int:
        """What the prompt that is read in chunks takes, or will."""
        return padded([len(self._long.row.text)]) if self._long else 0

    @property
    def reading(self) -> bool:
        """Whether a prompt has been begun."""
        return self._long is not None

    def remove(self, row: Sequence) -> bool:
        if self._long is not None and self._long.row is row:
            self._long = None
            return True
        if row in self._waiting:
            self._waiting.remove(row)
            return True
        return False

    def clear(self) -> None:
        """Drop everything that waits, and the cost estimate."""
        self._waiting.clear()
        self._long = None
        self._budget.clear()

    def rows(self) -> list[Sequence]:
        return ([self._long.row] if self._long else []) + list(self._waiting)

    def abandon(self) -> list[Sequence]:
        """After a failed call: drop the sequences it was working on, and return them."""
        lost, self._working = self._working, []
        if self._long is not None and self._long.row in lost:
            self._long = None
        return lost

    def run(self, room: int, busy: bool, fits: Callable[[list[int]], bool]) -> Prefilled | None:
        """Make one call; the sequences that are ready to decode after it, if any. `fits`: whether there is memory for
        prompts of these lengths."""
        budget = self._budget.tokens(busy)
        if self._long is not None and (not self._waiting or not self._long_ran_last):
            self._long_ran_last = True
            return self._advance(self._long, budget)
        self._long_ran_last = False
        group = self._group(budget, room - (self._long is not None), fits)
        if group:
            return self._together(group)
        # Nothing that waits can be read now: the long prompt need not wait for its turn.
        return self._advance(self._long, budget) if self._long is not None else None

    def _group(
        self, budget: int, room: int, fits: Callable[[list[int]], bool]
    ) -> list[tuple[Sequence, Cache]]:
        """Waiting sequences that fit into one call. A prompt that is too long becomes the one fed in chunks."""
        group: list[tuple[Sequence, Cache]] = []
        widest = 0
        while self._waiting and len(group) < min(self._most, room):
            row = self._waiting.peek()
            if not fits([len(other.text) for other in (*(first for first, _ in group), row)]):
                break
            cache, covered = self._prefix.fetch(row.text)
            rest = len(row.text) - 1 - covered
            widest = max(widest, rest)
            if group and (widest * (len(group) + 1) > budget or rest == 0):
                break
            self._waiting.pop()
            self._working = [*(other for other, _ in group), row]
            if row.resumed is None:
                row.cached = covered
                if row.on_started:
                    row.on_started()
            row.tokens = row.text[:covered]
            cache = self._new_cache() if cache is None else cache
            if rest > budget:
                if self._long is not None:  # one at a time: this one comes next
                    self._waiting.add_first(row)
                    break
                self._long, self._long_ran_last = _Long(row, cache), False
                break
            group.append((row, cache))
            if rest == 0:
                break
        return group

    def _together(self, group: list[tuple[Sequence, Cache]]) -> Prefilled:
        self._working = rows = [row for row, _ in group]
        rests = [row.text[len(row.tokens) : -1] for row in rows]
        single = len(group) == 1
        cache = group[0][1] if single else kv_cache.merged([cache for _, cache in group])
        lengths = [len(rest) for rest in rests]
        if single:
            self._feed_one(cache, rests[0])
        else:
            self._feed_several(cache, rests)
        for row, rest in zip(rows, rests, strict=True):
            row.tokens = row.tokens + rest
        done = Prefilled(rows, cache, single)
        for index, length in enumerate(lengths):
            self._keep(done, index, length)
        return done

    def _advance(self, long: _Long, budget: int) -> Prefilled | None:
        self._working = [long.row]
        text, at = long.row.text, len(long.row.tokens)
        chunk = text[at : min(at + budget, len(text) - 1)]
        self._feed_one(long.cache, chunk)
        long.row.tokens = long.row.tokens + chunk
        if len(long.row.tokens) < len(text) - 1:
            return None
        self._long = None
        done = Prefilled([long.row], long.cache, single=True)
        self._keep(done, 0, len(text) - long.row.cached)
        return done

    def _feed_one(self, cache: Cache, tokens: list[int]) -> None:
        padding = round_up(len(tokens)) - len(tokens) if kv_cache.plain(cache) else 0
        if tokens:
            self._feed(cache, [tokens + [0] * padding])  # earlier tokens do not see the padding
        if padding:
            kv_cache.trim(cache, padding)

    def _feed_several(self, cache: Cache, tokens: list[list[int]]) -> None:
        lengths = [len(row) for row in tokens]
        width = round_up(max(lengths))
        padding = [width - length for length in lengths]
        if max(padding):
            for layer in cache:
                layer.prepare(lengths=lengths, right_padding=padding)
        self._feed(cache, [row + [0] * more for row, more in zip(tokens, padding, strict=True)])
        if max(padding):
            for layer in cache:
                layer.finalize()

    def _feed(self, cache: Cache, tokens: list[list[int]]) -> None:
        began = time.perf_counter()
        with prompt_lengths([len(row.prompt) for row in self._working]):
            self._model(mx.array(tokens), cache=cache)  # only the caches are evaluated, not the logits
        arrays = kv_cache.arrays(cache)
        self._all_cores(True)
        with limit_inflight_memory(ROOM + sum(array.nbytes for array in arrays)):
            mx.eval(arrays)
        self._all_cores(False)
        fed = len(tokens) * len(tokens[0])
        if fed > LARGEST // 4:
            mx.clear_cache()
        self._budget.learn(fed, time.perf_counter() - began)

    def _keep(self, done: Prefilled, index: int, new_tokens: int) -> None:
        if not self._prefix.max_bytes or not new_tokens:
            return
        if new_tokens < WORTH_KEEPING and kv_cache.trimmable(done.cache):
            return  # it will be inserted with its answer
        cache = done.cache if done.single else kv_cache.extracted(done.cache, index)
        row = done.rows[index]
        self._prefix.insert(row.tokens, cache, len(row.prompt))
