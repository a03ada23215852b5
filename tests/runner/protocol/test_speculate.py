"""The one option by which a request says how tokens are drafted ahead."""

from typing import Any

import pytest

from runner.errors import BadRequest
from runner.protocol.speculate import read_speculate
from runner.protocol.text_rules import parse_text_body


@pytest.mark.parametrize(
    ("value", "means"),
    [(None, None), ("lookup", "lookup"), ("off", 0), (False, 0), (0, 0), (7, 7), (7.0, 7), (32, 32)],
)
def test_values_that_are_allowed(value: Any, means: Any) -> None:
    assert read_speculate(value, "speculate") == means


@pytest.mark.parametrize("value", [True, "on", "LOOKUP", "", -1, 33, 1.5, [], {"lookup": 1}, "8"])
def test_others_are_named_with_what_is_allowed(value: Any) -> None:
    with pytest.raises(
        BadRequest, match=r'^options.speculate: .* is not allowed; "lookup", "off", false, or'
    ):
        read_speculate(value, "options.speculate")


@pytest.mark.parametrize(
    "body", [b'{"prompt":"x","speculate":"lookup"}', b'{"prompt":"x","options":{"speculate":"lookup"}}']
)
def test_it_stands_among_the_options_or_beside_them(body: bytes) -> None:
    request, _ = parse_text_body(body)
    assert request.options.speculate == "lookup"
