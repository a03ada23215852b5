"""Drafting goes on as far as it pays, and no further."""

import pytest

from models.language.speculate.policy import LONGEST_REST, PRICE, SHORTEST_REST, Policy, Price


def after(drafted: int, right: int, times: int, most: int = 16) -> Policy:
    policy = Policy(most)
    for _ in range(times):
        policy.learn(drafted, right)
    return policy


def rest(policy: Policy) -> int:
    """How many steps pass until it tries again."""
    steps = 0
    while policy.resting:
        policy.pause()
        steps += 1
    return steps


def test_drafts_that_are_right_become_as_many_as_allowed() -> None:
    assert after(8, 8, 20).tokens(PRICE) == 16
    assert after(8, 8, 20, most=5).tokens(PRICE) == 5


def test_the_more_are_wrong_the_fewer_there_are() -> None:
    often, seldom = after(8, 6, 20).tokens(PRICE), after(8, 1, 20).tokens(PRICE)
    assert 16 > often > seldom > 0


def test_where_nothing_is_right_there_are_none_and_it_is_tried_again_ever_more_seldom() -> None:
    policy = after(8, 0, 30)
    rests = []
    for _ in range(8):
        assert policy.tokens(PRICE) == 0
        rests.append(rest(policy))
        assert 0 < policy.tokens(PRICE) <= 16
        for _ in range(30):
            policy.learn(4, 0)
    assert rests[0] == SHORTEST_REST
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_REST


def test_where_a_place_costs_as_much_as_a_step_only_certain_drafts_pay() -> None:
    """As with many clients on a processor: a wrong draft takes the place of another's token."""
    assert after(8, 6, 20).tokens(1.0) == 0


def test_the_price_is_measured_over_steps_of_different_lengths() -> None:
    price = Price()
    assert price.of(1) == PRICE
    for tokens in (9, 9, 9):
        price.learn(tokens, 0.1 + 0.01 * tokens)
    assert price.of(1) == PRICE, "steps that are all as long say nothing"
    for tokens in (17, 5, 12, 3, 1, 9, 4, 1, 6):
        price.learn(tokens, 0.1 + 0.01 * tokens)
    assert price.of(1) == pytest.approx(0.01 / 0.11, rel=0.05)
    assert price.of(10) == pytest.approx(0.1 / 0.2, rel=0.05)
