"""Alternatives of a token are those that it could have been."""

import math

from models.language.batch.logprobs import likeliest


def test_what_a_grammar_rules_out_is_no_alternative() -> None:
    values = [-0.1, -2.5, -math.inf, -math.inf]
    assert likeliest([7, 3, 5, 1], values, 4) == ((7, -0.1), (3, -2.5))
    assert likeliest([7, 3, 5, 1], values, 1) == ((7, -0.1),)
    assert likeliest([], [], 0) == ()
