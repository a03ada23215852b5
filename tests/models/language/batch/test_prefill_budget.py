"""What a call may hold follows from what calls cost."""

import pytest

from models.language.batch.prefill_budget import PrefillCostModel


def taught(fixed: float, each: float, lengths: list[int]) -> PrefillCostModel:
    cost = PrefillCostModel()
    for tokens in lengths:
        cost.learn(tokens, fixed + each * tokens)
    return cost


def test_nothing_is_known_before_a_call_that_did_not_compile() -> None:
    cost = PrefillCostModel()
    assert cost.tokens_in(0.06) is None
    cost.learn(60, 30.0)
    assert cost.tokens_in(0.06) is None


def test_where_tokens_are_what_costs_a_call_is_as_long_as_its_time_allows() -> None:
    assert taught(0, 0.001, [10, 100, 50, 80]).tokens_in(0.06) == pytest.approx(60)
    assert taught(0, 0.001, [50, 50, 50]).tokens_in(0.06) == pytest.approx(60)


def test_where_calls_cost_by_themselves_they_are_not_cut_ever_smaller() -> None:
    """Every call 0.1 s whatever its length, as on a GPU with prompts of new lengths: 0.06 s can't be had."""
    assert taught(0.1, 0, [61, 32, 29, 60, 64]).tokens_in(0.06) == float("inf")
    slow = taught(0.1, 0.0001, [61, 32, 29, 60, 64]).tokens_in(0.06)
    assert slow is not None
    assert slow == pytest.approx(600, rel=0.01)


def test_a_call_that_took_very_long_is_not_believed() -> None:
    cost = taught(0, 0.001, [10, 100, 50, 80])
    cost.learn(60, 20.0)
    believed = cost.tokens_in(0.06)
    assert believed is not None
    assert believed > 10


def test_it_follows_calls_that_become_dearer() -> None:
    """Later parts of a long prompt look back at all of it."""
    cost = taught(0, 0.0001, [500, 500, 500, 500])
    for _ in range(12):
        cost.learn(500, 0.2)
    assert cost.tokens_in(0.06) == pytest.approx(150, rel=0.15)
