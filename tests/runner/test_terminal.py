"""Text for a terminal."""

import pytest

from runner.cli.progress import bar
from runner.terminal import ago, paragraph, span, stamp, table


def test_a_first_cell_that_is_too_wide_stands_on_a_line_of_its_own() -> None:
    text = table(("NAME", "SIZE"), [("short", "1 GB"), ("x" * 40, "2 GB")], width=20)
    assert text.splitlines() == [
        "NAME            SIZE",
        "short           1 GB",
        "x" * 40,
        "                2 GB",
    ]


def test_columns_are_as_wide_as_their_widest_cell() -> None:
    assert table(("A", "B"), [("1", "22"), ("333", "4")], width=80) == "A    B\n1    22\n333  4"


def test_what_would_steer_the_terminal_is_shown_as_question_marks() -> None:
    assert table(("A", "B"), [("x\x1b[2J", "y\n")]).splitlines()[1] == "x?[2J  y?"


@pytest.mark.parametrize(
    ("passed", "shown"),
    [
        (0, "just now"),
        (59, "just now"),
        (60, "1 minute ago"),
        (7300, "2 hours ago"),
        (86400 * 3, "3 days ago"),
    ],
)
def test_times_are_shown_as_readers_want_them(passed: float, shown: str) -> None:
    assert ago(10**9 - passed, now=10**9) == shown


def test_what_is_long_ago_is_a_date() -> None:
    assert ago(10**9, now=2 * 10**9) in ("2001-09-08", "2001-09-09")
    assert ago(0) == "unknown"
    assert stamp(10**9) == "2001-09-09T01:46:40Z"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-3, "0 s"), (0.4, "0 s"), (119, "119 s"), (240, "4 min"), (7200, "2 h"), (10**6, "12 days")],
)
def test_lengths_of_time_are_as_exact_as_a_glance_wants(seconds: float, shown: str) -> None:
    assert span(seconds) == shown


def test_paragraphs_fold_but_never_cut_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    name = "owner/" + "x" * 60
    assert name in paragraph(f"the model {name} is not here", "  ").split()


def test_a_bar_fills_to_an_eighth_of_a_character() -> None:
    assert [bar(share, 2) for share in (0, 0.25, 0.5, 1)] == ["  ", "▌ ", "█ ", "██"]
