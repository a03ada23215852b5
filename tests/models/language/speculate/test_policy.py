"""Drafting goes on as far as it pays, and no further."""

import pytest

from models.language.speculate.policy import (
    LONGEST_REST,
    MEASURED,
    PRICE,
    SHORTEST_REST,
    TRIAL,
    TRIAL_TOKENS,
    Policy,
    Price,
)


def after(drafted: int, accepted: int, times: int, most: int = 16) -> Policy:
    policy = Policy(most)
    for _ in range(times):
        policy.learn(drafted, accepted)
    return policy


def rest(policy: Policy) -> int:
    """How many steps pass until it tries again."""
    steps = 0
    while policy.resting:
        policy.pause()
        steps += 1
    return steps


def test_drafts_that_are_accepted_become_as_many_as_allowed() -> None:
    assert after(8, 8, 20).tokens(PRICE) == 16
    assert after(8, 8, 20, most=5).tokens(PRICE) == 5


def test_the_more_are_wrong_the_fewer_there_are() -> None:
    often, seldom = after(8, 6, 20).tokens(PRICE), after(8, 1, 20).tokens(PRICE)
    assert 16 > often > seldom > 0


def test_where_nothing_is_accepted_there_are_none_and_it_is_tried_again_ever_more_seldom() -> None:
    policy = after(8, 0, 30)
    rests = []
    for _ in range(8):
        assert policy.tokens(PRICE) == 0
        rests.append(rest(policy))
        for _ in range(TRIAL):
            assert policy.tokens(PRICE) == TRIAL_TOKENS
            policy.learn(TRIAL_TOKENS, 0)
        for _ in range(30):
            policy.learn(4, 0)
    assert rests[0] == SHORTEST_REST
    assert rests == sorted(rests)
    assert rests[-1] == LONGEST_REST


def test_a_price_that_was_measured_too_high_is_measured_again() -> None:
    policy = after(8, 8, 10)
    assert policy.tokens(1.0) == 0
    rest(policy)
    for _ in range(TRIAL):
        assert policy.tokens(1.0) == TRIAL_TOKENS
        policy.learn(TRIAL_TOKENS, TRIAL_TOKENS)
    assert policy.tokens(PRICE) > TRIAL_TOKENS


def test_where_a_place_costs_as_much_as_a_step_only_certain_drafts_pay_off() -> None:
    """As with many clients on a processor: a wrong draft takes the place of another's token."""
    assert after(8, 6, 20).tokens(1.0) == 0


def test_the_price_is_measured_over_steps_of_different_lengths() -> None:
    price = Price()
    assert price.of(1) == PRICE
    for _ in range(MEASURED):
        price.learn(9, 0.19)
    assert price.of(1) == PRICE, "steps that are all as long say nothing"
    for tokens in 3 * (17, 5, 12, 3, 1, 9, 4, 1, 6):
        price.learn(tokens, 0.1 + 0.01 * tokens)
    assert price.of(1) == pytest.approx(0.01 / 0.11, rel=0.05)
    assert price.of(10) == pytest.approx(0.1 / 0.2, rel=0.05)


def test_a_few_steps_on_a_busy_machine_say_nothing() -> None:
    price = Price()
    for tokens, seconds in ((6, 0.3), (11, 0.03), (17, 0.5), (17, 3.0)):
        price.learn(tokens, seconds)
    assert price.of(1) == PRICE
