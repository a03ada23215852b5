"""Guessed tokens change nothing about a text: neither what is written nor how it is distributed."""

import json
from collections import Counter
from collections.abc import Callable
from collections.abc import Sequence as Items
from typing import Any

import mlx.core as mx
import numpy as np
import pytest

from models.language.batch.options import Sampling
from models.language.batch.sampling import NO_TOKEN, Sampler, apply_bitmask, logprobs
from models.language.batch.sequence import Matcher, Sequence, TokenLogprob
from models.language.batch.verification import Run, check
from tests.runner.engine.text.test_grammar import PADDING, PERSON, end, usual
from tests.runner.engine.text.vocabularies import byte_level

VOCAB = 61
PROMPT = [3, 1, 4, 1, 5, 9, 2, 6]
OPTIONS = {
    "greedy": Sampling(),
    "seeded": Sampling(temperature=1.0, seed=7),
    "filtered": Sampling(temperature=0.9, top_k=20, top_p=0.9, min_p=0.02, seed=8),
    "penalized": Sampling(temperature=0.8, repeat_penalty=1.3, presence_penalty=0.4, repeat_last_n=5, seed=9),
    "penalized over all": Sampling(frequency_penalty=0.7, repeat_last_n=-1),
    "biased": Sampling(temperature=1.1, bias={5: 2.0, 6: -100.0}, seed=10),
}


class Network:
    """Logits that depend on the last two tokens, and are the same whenever these are."""

    def __init__(self, vocab: int = VOCAB, sharpness: float = 2.0) -> None:
        self._vocab = vocab
        self._sharpness = sharpness

    def logits(self, history: Items[int]) -> np.ndarray[Any, Any]:
        rng = np.random.default_rng([history[-1], history[-2] if len(history) > 1 else 0])
        return rng.normal(size=self._vocab).astype(np.float32) * self._sharpness


def sequence(sampling: Sampling, count: int = 40, **fields: Any) -> Sequence:
    row = Sequence(0, PROMPT, count, sampling, **fields)
    row.tokens = PROMPT[:-1]
    return row


Written = list[tuple[int, TokenLogprob | None]]


def plain(network: Network, row: Sequence, vocab: int = VOCAB) -> Written:
    """One token after another."""
    sampler = Sampler([row.sampling], [row.tokens], [0], vocab)
    history, written = list(row.prompt), []
    while len(written) < row.max_tokens:
        scores = mx.array(network.logits(history))[None]
        if row.matcher is not None:
            scores = apply_bitmask(scores, row.matcher.mask()[None])
        token = sampler(scores, mx.array(history[-1:], dtype=mx.uint32))
        found = None
        if row.logprobs is not None:
            chosen, ids, values = (array.tolist() for array in logprobs(scores, token, row.logprobs))
            found = TokenLogprob(chosen[0], tuple(zip(ids[0], values[0], strict=True)))
        history.append(int(token.item()))
        if history[-1] in row.stop_tokens:
            break
        written.append((history[-1], found))
        if row.matcher is not None:
            row.matcher.accept(history[-1])
            if row.matcher.finished:
                break
    return written


Draft = Callable[[list[int], list[int]], list[int]]  # of the text so far, and what will be written


def drafted(
    network: Network, row: Sequence, draft: Draft, expected: Items[int], vocab: int = VOCAB
) -> Written:
    """With drafts, in company of a row that is fed one token at a time."""
    other = sequence(Sampling(temperature=1.0, seed=1))
    pending, written = row.prompt[-1], []
    while len(written) < row.max_tokens:
        texts = [*row.tokens, pending]
        run = Run.of(row, pending, draft(texts, list(expected[len(written) :])))
        assert run.error is None
        runs = [Run.of(other, 2, []), run]
        scores = [
            network.logits([*each.row.tokens, *each.tokens[: at + 1]])
            for each in runs
            for at in range(len(each.tokens))
        ]
        checked = check(runs, mx.array(np.stack(scores)), vocab)[1]
        assert checked.tokens[:-1] == run.drafts[: checked.right]
        for token, found in zip(checked.tokens, checked.logprobs, strict=True):
            if token in row.stop_tokens:
                return written
            written.append((token, found))
            row.generated += 1
            if row.matcher is not None:
                row.matcher.accept(token)
                if row.matcher.finished:
                    return written
        row.tokens = [*row.tokens, *run.tokens[: checked.right + 1]]
        pending = checked.tokens[-1]
    return written


def mostly_right(seed: int, vocab: int = VOCAB) -> Draft:
    rng = np.random.default_rng(seed)

    def draft(text: list[int], coming: list[int]) -> list[int]:
        count = int(rng.integers(0, 7))
        return [token if rng.random() < 0.8 else int(rng.integers(0, vocab)) for token in coming[:count]]

    return draft


@pytest.mark.parametrize("name", OPTIONS)
def test_a_text_is_the_same_with_drafts_and_without(name: str) -> None:
    network = Network()
    expected = plain(network, sequence(OPTIONS[name], logprobs=3))
    tokens = [token for token, _ in expected]
    found = drafted(network, sequence(OPTIONS[name], logprobs=3), mostly_right(4), tokens)
    assert [token for token, _ in found] == tokens
    for (_, mine), (_, theirs) in zip(found, expected, strict=True):
        assert mine is not None
        assert theirs is not None
        assert mine.logprob == pytest.approx(theirs.logprob, abs=1e-5)
        assert [id for id, _ in mine.top] == [id for id, _ in theirs.top]


def test_right_drafts_are_taken_all_and_wrong_ones_never() -> None:
    network, row = Network(), sequence(Sampling(temperature=1.0, seed=3))
    tokens = [token for token, _ in plain(network, sequence(row.sampling))]

    def checked(drafts: list[int]) -> list[int]:
        run = Run.of(row, PROMPT[-1], drafts)
        scores = [network.logits([*row.tokens, *run.tokens[: at + 1]]) for at in range(len(run.tokens))]
        return check([run], mx.array(np.stack(scores)), VOCAB)[0].tokens

    wrong = (tokens[2] + 1) % VOCAB
    assert checked(tokens[:6]) == tokens[:7]
    assert checked([*tokens[:2], wrong, *tokens[3:6]]) == tokens[:3]
    assert checked([]) == tokens[:1]


def test_what_is_drawn_has_the_distribution_of_the_model_whatever_is_drafted() -> None:
    """The second of two tokens, over many seeds, beside its exact probabilities: a chi-square test."""
    vocab, draws = 7, 6000
    network = Network(vocab, 1.0)
    first, second = (
        [network.logits([*PROMPT, *more]) for more in tails] for tails in ([[]], [[t] for t in range(vocab)])
    )
    softmax = [np.exp(x) / np.exp(x).sum() for x in (*first, *second)]
    expected = sum(softmax[0][t] * softmax[1 + t] for t in range(vocab)) * draws
    rows = [sequence(Sampling(temperature=1.0, seed=seed), 2) for seed in range(draws)]
    # Drafts that are as bad as they can be for some rows, and good for others.
    runs = [Run.of(row, PROMPT[-1], [at % vocab]) for at, row in enumerate(rows)]
    scores = [x for run in runs for x in (first[0], second[run.tokens[1]])]
    counts: Counter[int] = Counter()
    again, pending = [], []
    for checked in check(runs, mx.array(np.stack(scores)), vocab):
        if checked.right:
            counts[checked.tokens[1]] += 1
        else:
            checked.run.row.tokens = [*checked.run.row.tokens, PROMPT[-1]]
            again.append(Run.of(checked.run.row, checked.tokens[0], []))
            pending.append(second[checked.tokens[0]])
    assert len(again) < draws
    for checked in check(again, mx.array(np.stack(pending)), vocab):
        counts[checked.tokens[0]] += 1
    statistic = sum((counts[t] - expected[t]) ** 2 / expected[t] for t in range(vocab))
    assert statistic < 22.46, "with six degrees of freedom, one in a thousand is larger"


def matcher() -> Matcher:
    return usual().compile(PERSON).matcher()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_grammar_holds_with_drafts_as_without(temperature: float) -> None:
    tokenizer = byte_level()
    vocab = tokenizer.get_vocab_size() + PADDING
    network = Network(vocab)
    options = Sampling(temperature=temperature, seed=5)

    def one() -> Sequence:
        return sequence(options, 200, matcher=matcher(), stop_tokens=frozenset([end(tokenizer)]), logprobs=1)

    expected = plain(network, one(), vocab)
    tokens = [token for token, _ in expected]
    found = drafted(network, one(), mostly_right(6, vocab), tokens, vocab)
    assert [token for token, _ in found] == tokens
    if len(tokens) < 200:  # a greedy one may go on with spaces for ever
        assert set(json.loads(tokenizer.decode(tokens))) == {"name", "age"}


def test_what_the_grammar_forbids_is_not_even_fed() -> None:
    tokenizer = byte_level()
    vocab = tokenizer.get_vocab_size() + PADDING
    brace, letter = tokenizer.token_to_id("{"), tokenizer.token_to_id("x")
    row = sequence(Sampling(), matcher=matcher())
    assert Run.of(row, PROMPT[-1], [letter, brace]).drafts == []
    assert Run.of(row, PROMPT[-1], [brace, letter, brace]).drafts == [brace]
    assert row.matcher is not None
    assert row.matcher.mask().tolist() == matcher().mask().tolist(), "it stands where it stood"
    assert Run.of(row, PROMPT[-1], [vocab - 1]).drafts == []


def test_nothing_is_drafted_beyond_the_end_of_a_text() -> None:
    row = sequence(Sampling(), 4, stop_tokens=frozenset([9]))
    assert Run.of(row, 1, [2, 3, 4, 5, 6]).drafts == [2, 3, 4]
    assert Run.of(row, 1, [2, 9, 4]).drafts == [2], "the model itself says where the end is"
    row.generated = 3
    assert Run.of(row, 1, [2, 3]).drafts == []


def test_logits_that_are_not_finite_end_a_run_where_they_are() -> None:
    network, row = Network(), sequence(Sampling())
    tokens = [token for token, _ in plain(network, sequence(Sampling(), 3))]
    run = Run.of(row, PROMPT[-1], tokens)
    scores = np.stack([network.logits([*row.tokens, *run.tokens[: at + 1]]) for at in range(4)])
    scores[2] = np.nan
    assert check([run], mx.array(scores), VOCAB)[0].tokens == [*tokens[:2], NO_TOKEN]
