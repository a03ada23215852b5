"""Sequences join and leave a running batch, and each writes what it would write alone."""

from collections.abc import Iterator

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import numpy.typing as npt
import pytest
from mlx_lm.generate import generate_step

from models.files import LocalModel, Shard
from models.language import build
from models.language.batch.batch import Batch
from models.language.batch.options import Sampling
from models.language.batch.sequence import Output, Sequence
from models.language.cache import kv_cache
from models.language.cache.prefix_cache import PrefixCache
from models.language.decode import attention, reference_ops
from models.language.decode.decoder import Decoder, Pool
from models.language.load import LanguageModel, load
from tests.toys import toy_text

FAMILIES = ["llama", "qwen3", "gemma3", "mistral", "glm4_moe_lite", "lfm2", "qwen3_next"]


def toy(family: str, **options: object) -> LanguageModel:
    folder = toy_text(family, **options)
    shard = Shard(folder / "model.safetensors")
    return load(LocalModel(family, folder, lambda component: (shard,)))


# How rows are held on NVIDIA cards, in MLX's own operations, and how prompts are fed there: of few lengths.
ON_A_CARD = ["llama, compiled", "qwen3, compiled", "qwen3, padded", "gemma3, padded", "lfm2, padded"]


def compiled_step(model: nn.Module, pool: Pool) -> Decoder:
    return Decoder(model, reference_ops)


@pytest.fixture(scope="module", params=[*FAMILIES, *ON_A_CARD])
def model(request: pytest.FixtureRequest) -> Iterator[LanguageModel]:
    family, _, how = request.param.partition(", ")
    made = toy(family)
    with pytest.MonkeyPatch.context() as patch:
        if how:
            patch.setattr(attention, "on_cuda", lambda: True)
            patch.setattr(build, "patch_attention", lambda model: None)  # what it changes would stay
        if how == "compiled":
            patch.setattr(Decoder, "of", compiled_step)
        yield made


def batch_for(model: LanguageModel, cache_bytes: int = 0, rows: int = 16) -> Batch:
    return Batch(model.model, model.vocab, model.new_cache, PrefixCache(cache_bytes), rows)


def prompt(model: LanguageModel, seed: int, length: int) -> list[int]:
    return [int(t) for t in np.random.default_rng(seed).integers(5, model.vocab - 5, length)]


def written(batch: Batch, sequences: list[Sequence], after: int = 0) -> list[list[int]]:
    """Run until all are finished; they are added one every `after` steps."""
    outputs: dict[Sequence, list[Output]] = {sequence: [] for sequence in sequences}
    waiting = list(sequences)
    if not after:
        for sequence in waiting:
            batch.add(sequence)
        waiting = []
    steps = 0
    while batch.busy or waiting:
        if waiting and steps % after == 0:
            batch.add(waiting.pop(0))
        for output in batch.step():
            outputs[output.sequence].append(output)
        steps += 1
        assert steps < 2000
    for found in outputs.values():
        assert found[-1].finish
        assert not any(output.finish for output in found[:-1])
    return [[o.token for o in outputs[s] if o.token is not None] for s in sequences]


def reference(model: LanguageModel, tokens: list[int], count: int) -> list[int]:
    """mlx-lm's own generation."""
    steps = generate_step(mx.array(tokens), model.model, max_tokens=count)
    found: list[int] = []
    for token, _ in steps:
        if token in model.stop_tokens:
            break
        found.append(int(token))
    return found


def test_one_sequence_writes_what_mlx_lm_writes(model: LanguageModel) -> None:
    tokens = prompt(model, 1, 37)
    sequence = Sequence(1, tokens, 30, stop_tokens=model.stop_tokens)
    assert written(batch_for(model), [sequence]) == [reference(model, tokens, 30)]


@pytest.mark.parametrize("after", [0, 1, 3])
def test_company_changes_nothing(model: LanguageModel, after: int) -> None:
    prompts = [prompt(model, seed, length) for seed, length in enumerate([1, 5, 17, 40, 3, 2])]
    counts = [12, 20, 7, 15, 1, 25]
    sequences = [
        Sequence(i, tokens, count, stop_tokens=model.stop_tokens)
        for i, (tokens, count) in enumerate(zip(prompts, counts, strict=True))
    ]
    expected = [reference(model, tokens, count) for tokens, count in zip(prompts, counts, strict=True)]
    assert written(batch_for(model), sequences, after) == expected


def test_a_seeded_sequence_writes_the_same_alone_and_in_company(model: LanguageModel) -> None:
    def one() -> Sequence:
        return Sequence(0, prompt(model, 9, 11), 20, Sampling(temperature=0.9, top_p=0.9, seed=42))

    (alone,) = written(batch_for(model), [one()])
    others = [
        Sequence(i, prompt(model, i, 3 * i), 9 + i, Sampling(temperature=1.0, seed=i)) for i in (1, 2, 3)
    ]
    company = written(batch_for(model), [others[0], one(), *others[1:]], after=2)
    assert company[1] == alone


def test_a_known_beginning_is_not_computed_again(model: LanguageModel) -> None:
    batch = batch_for(model, cache_bytes=2**30)
    tokens = prompt(model, 4, 50)
    first = Sequence(1, tokens, 10, stop_tokens=frozenset())
    (answer,) = written(batch, [first])
    again = Sequence(2, tokens, 10, stop_tokens=frozenset())
    assert written(batch, [again]) == [answer]
    follow = Sequence(3, tokens + answer + prompt(model, 5, 9), 10, stop_tokens=frozenset())
    (found,) = written(batch, [follow])
    assert follow.cached >= len(tokens)
    assert found == reference_without_stop(model, follow.prompt, 10)
    if kv_cache.trimmable(model.new_cache()):
        assert again.cached == len(tokens) - 1, "one token is given back: the model must be fed something"


def reference_without_stop(model: LanguageModel, tokens: list[int], count: int) -> list[int]:
    return [int(t) for t, _ in generate_step(mx.array(tokens), model.model, max_tokens=count)]


def test_removed_sequences_leave_at_once_and_the_others_go_on(model: LanguageModel) -> None:
    batch = batch_for(model)
    stays = Sequence(0, prompt(model, 1, 9), 30, stop_tokens=frozenset())
    goes = [Sequence(i, prompt(model, i, 6), 30, stop_tokens=frozenset()) for i in (1, 2)]
    for sequence in [goes[0], stays, goes[1]]:
        batch.add(sequence)
    found: list[int] = []
    steps = 0
    while batch.busy:
        found += [o.token for o in batch.step() if o.sequence is stays and o.token is not None]
        steps += 1
        if steps in (4, 9):
            batch.remove(goes.pop())
            assert len(batch) == 1 + len(goes)
    assert found == reference_without_stop(model, stays.prompt, 30)


def test_a_long_prompt_goes_in_by_chunks_while_others_write(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy("qwen3")
    monkeypatch.setattr("models.language.batch.prefill.LARGEST", 64)
    batch = batch_for(model)
    writing = Sequence(0, prompt(model, 1, 9), 60, stop_tokens=frozenset())
    long = Sequence(1, prompt(model, 2, 700), 5, stop_tokens=frozenset())
    batch.add(writing)
    batch.step()
    batch.add(long)
    between = 0
    while long.awaiting_first_token:
        between += any(o.sequence is writing for o in batch.step())
    assert between >= 5, "the other one wrote in between"
    rest = [o.token for o in drain(batch) if o.sequence is long and o.token is not None]
    assert rest == reference_without_stop(model, long.prompt, 5)


def drain(batch: Batch) -> Iterator[Output]:
    while batch.busy:
        yield from batch.step()


class Evens:
    """A grammar of even tokens that ends after four."""

    def __init__(self, vocab: int) -> None:
        bits = np.zeros((vocab + 31) // 32 * 32, dtype=np.uint8)
        bits[:vocab:2] = 1
        self._mask = np.packbits(bits, bitorder="little").view(np.uint32)
        self.seen: list[int] = []

    def mask(self) -> npt.NDArray[np.uint32]:
        return self._mask

    def accept(self, token: int) -> None:
        self.seen.append(token)

    @property
    def finished(self) -> bool:
        return len(self.seen) == 4


def test_a_grammar_holds_its_own_row_alone() -> None:
    model = toy("llama")
    batch = batch_for(model)
    free = Sequence(0, prompt(model, 1, 9), 20, stop_tokens=frozenset())
    bound = Sequence(1, prompt(model, 2, 9), 20, matcher=Evens(model.vocab), stop_tokens=frozenset())
    found = written(batch, [free, bound])
    assert found[0] == reference_without_stop(model, free.prompt, 20)
    assert len(found[1]) == 4
    assert all(token % 2 == 0 for token in found[1])


class Broken(Evens):
    def mask(self) -> npt.NDArray[np.uint32]:
        raise RuntimeError("lost")


def test_a_broken_grammar_ends_its_own_request_alone() -> None:
    model = toy("llama")
    batch = batch_for(model)
    free = Sequence(0, prompt(model, 1, 9), 20, stop_tokens=frozenset())
    broken = Sequence(1, prompt(model, 2, 9), 20, matcher=Broken(model.vocab), stop_tokens=frozenset())
    batch.add(free)
    batch.add(broken)
    outputs = list(drain(batch))
    (failed,) = [o for o in outputs if o.sequence is broken]
    assert failed.error == "the grammar failed: lost"
    tokens = [o.token for o in outputs if o.sequence is free]
    assert tokens == reference_without_stop(model, free.prompt, 20)


def test_logprobs_come_for_the_rows_that_ask() -> None:
    model = toy("llama")
    batch = batch_for(model)
    plain = Sequence(0, prompt(model, 1, 9), 8, stop_tokens=frozenset())
    asking = Sequence(1, prompt(model, 2, 9), 8, logprobs=3, stop_tokens=frozenset())
    batch.add(plain)
    batch.add(asking)
    outputs = list(drain(batch))
    assert all(o.logprob is None for o in outputs if o.sequence is plain)
    steps = generate_step(mx.array(asking.prompt), model.model, max_tokens=8)
    for output, (token, expected) in zip([o for o in outputs if o.sequence is asking], steps, strict=True):
        assert output.logprob is not None
        assert output.token == token
        assert output.logprob.logprob == pytest.approx(expected[token].item(), abs=1e-4)
        assert [id for id, _ in output.logprob.top] == np.argsort(-np.array(expected))[:3].tolist()


def test_the_prefix_cache_stays_under_its_bound() -> None:
    model = toy("qwen3")
    one = batch_for(model, 2**30)
    list(drain_with(one, Sequence(0, prompt(model, 0, 300), 2, stop_tokens=frozenset())))
    limit = one.kept_bytes * 3
    batch = batch_for(model, limit)
    for seed in range(12):
        list(drain_with(batch, Sequence(seed, prompt(model, seed, 300), 2, stop_tokens=frozenset())))
        assert batch.kept_bytes <= limit
    assert batch.kept_bytes > limit // 4


def drain_with(batch: Batch, sequence: Sequence) -> Iterator[Output]:
    batch.add(sequence)
    yield from drain(batch)


def test_a_prompt_that_fails_costs_itself_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    model = toy("llama")
    batch = batch_for(model)
    writing = Sequence(0, prompt(model, 1, 9), 20, stop_tokens=frozenset())
    batch.add(writing)
    found = [o.token for _ in range(4) for o in batch.step()]
    feed = batch._prefill._feed

    def too_much(*arguments: object) -> None:
        monkeypatch.setattr(batch._prefill, "_feed", feed)
        raise RuntimeError("out of memory")

    monkeypatch.setattr(batch._prefill, "_feed", too_much)
    unlucky = Sequence(1, prompt(model, 2, 30), 5, stop_tokens=frozenset())
    lucky = Sequence(2, prompt(model, 3, 30), 5, stop_tokens=frozenset())
    batch.add(unlucky)
    outputs = batch.step()
    batch.add(lucky)
    outputs += list(drain(batch))
    assert [o.error for o in outputs if o.sequence is unlucky] == ["out of memory"]
    found += [o.token for o in outputs if o.sequence is writing]
    assert found == reference_without_stop(model, writing.prompt, 20)
    assert [o.token for o in outputs if o.sequence is lucky] == reference_without_stop(model, lucky.prompt, 5)


def test_quantized_caches_batch_too() -> None:
    model = toy("qwen3", head_dim=64)
    model.kv_bits = 8
    prompts = [prompt(model, seed, length) for seed, length in enumerate([9, 30, 2])]
    alone = [written(batch_for(model), [Sequence(0, p, 10, stop_tokens=frozenset())])[0] for p in prompts]
    together = [Sequence(i, p, 10, stop_tokens=frozenset()) for i, p in enumerate(prompts)]
    assert written(batch_for(model), together, after=2) == alone
