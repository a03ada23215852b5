"""Durations as people and Ollama's clients write them."""

import pytest

from runner.units import parse_duration, show_duration


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("5m", 300),
        ("90s", 90),
        ("1h30m", 5400),
        ("1.5h", 5400),
        ("300ms", 0.3),
        ("2d", 172800),
        ("300", 300),
        (" 10 ", 10),
        ("0", 0),
        ("-1", -1),
        ("-5m", -300),
        ("+5s", 5),
        (300, 300),
        (0.5, 0.5),
        (-1, -1),
    ],
)
def test_durations_are_seconds(written: str | float, seconds: float) -> None:
    assert parse_duration(written) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written", ["", "soon", "5 m", "m", "5x", "1h30", "--5m", "nan", "inf", float("nan"), float("inf")]
)
def test_anything_else_is_refused_with_what_is_accepted(written: str | float) -> None:
    with pytest.raises(ValueError, match="not a duration; write it like 5m"):
        parse_duration(written)


def test_they_are_shown_in_the_largest_unit() -> None:
    assert [show_duration(seconds) for seconds in (0.5, 59, 60, 5400, 172800)] == [
        "0.5 s",
        "59 s",
        "1 min",
        "1.5 h",
        "2 d",
    ]
