"""Stop strings across borders of pieces."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.engine.text.stop_strings import StopMatcher


def run(stops: list[str], pieces: list[str]) -> tuple[list[str], bool]:
    """What is sent for each piece, with the flush at the end, and whether a stop was met."""
    matcher = StopMatcher(stops)
    sent = []
    for piece in pieces:
        text, met = matcher.push(piece)
        sent.append(text)
        if met:
            assert matcher.flush() == ""
            return sent, True
    return [*sent, matcher.flush()], False


def expected(stops: list[str], text: str) -> tuple[str, bool]:
    """By brute force: grow the text a character at a time and look at its end."""
    for end in range(1, len(text) + 1):
        met = [len(stop) for stop in stops if text[:end].endswith(stop)]
        if met:
            return text[: end - max(met)], True
    return text, False


def test_without_stops_text_passes_at_once() -> None:
    assert run([], ["a", "", "bc"]) == (["a", "", "bc", ""], False)


def test_a_stop_across_three_pieces_is_met_and_never_sent() -> None:
    assert run(["###"], ["one #", "#", "# two"]) == (["one ", "", ""], True)


def test_a_beginning_that_comes_to_nothing_is_sent_late_but_whole() -> None:
    assert run(["###"], ["one ##", " two"]) == (["one ", "## two", ""], False)


def test_a_beginning_is_flushed_when_the_text_ends() -> None:
    assert run(["###"], ["one ##"]) == (["one ", "##"], False)


def test_what_follows_a_stop_in_its_piece_is_dropped_and_so_is_everything_later() -> None:
    matcher = StopMatcher(["."])
    assert matcher.push("yes. no") == ("yes", True)
    assert matcher.push("more") == ("", True)
    assert matcher.flush() == ""


def test_a_stop_that_overlaps_itself_is_found() -> None:
    assert run(["aab"], ["aa", "a", "b"]) == (["", "a", ""], True)


def test_the_longest_of_the_stops_that_end_together_wins() -> None:
    assert run(["b", "ab"], ["x", "a", "b"]) == (["x", "", ""], True)


def test_a_stop_inside_another_ends_the_text_as_soon_as_it_is_complete() -> None:
    assert run(["bc", "abcd"], ["abcd"]) == (["a"], True)
    assert run(["bc", "abcd"], ["a", "b", "c", "d"]) == (["", "", "a"], True)


def test_characters_outside_the_basic_plane_are_characters_like_others() -> None:
    assert run(["🙂🙃"], ["a🙂", "🙂", "🙃b"]) == (["a", "🙂", ""], True)


def test_an_empty_stop_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one character"):
        StopMatcher(["a", ""])


LETTERS = st.text("abc", max_size=12)


@given(
    stops=st.lists(st.text("abc", min_size=1, max_size=5), max_size=4), pieces=st.lists(LETTERS, max_size=12)
)
def test_any_cutting_gives_the_text_up_to_the_first_complete_stop(
    stops: list[str], pieces: list[str]
) -> None:
    sent, met = run(stops, pieces)
    assert ("".join(sent), met) == expected(stops, "".join(pieces))


@given(
    stops=st.lists(st.text("ab", min_size=1, max_size=5), min_size=1, max_size=4),
    pieces=st.lists(LETTERS, max_size=12),
)
def test_only_what_may_become_a_stop_is_held_back(stops: list[str], pieces: list[str]) -> None:
    matcher, text, out = StopMatcher(stops), "", ""
    for piece in pieces:
        sent, met = matcher.push(piece)
        text, out = text + piece, out + sent
        if met:
            return
        beginnings = [n for s in stops for n in range(len(s)) if text.endswith(s[:n])]
        assert text == out + text[len(text) - max(beginnings) :]
