"""What a text repeats is drafted, wherever it stands, and what only looks like it is not."""

import time

from models.language.speculate.lookup import AT_ONCE, LONGEST, Lookup


def of(text: list[int], prediction: tuple[int, ...] = ()) -> Lookup:
    lookup = Lookup(prediction)
    lookup.take(text, len(text))
    return lookup


def test_what_followed_the_last_words_before_is_drafted() -> None:
    assert of([1, 2, 3, 4, 5, 9, 8, 2, 3]).draft(2) == [4, 5]


def test_the_longest_match_wins_over_a_later_one() -> None:
    assert of([1, 2, 3, 4, 5, 9, 2, 3, 7, 7, 1, 2, 3]).draft(2) == [4, 5]


def test_of_equal_matches_the_latest_wins() -> None:
    assert of([5, 2, 3, 4, 6, 2, 3, 7, 8, 2, 3]).draft(1) == [7]


def test_a_longer_match_is_trusted_with_more_tokens() -> None:
    text = list(range(100, 150))
    assert len(of([*text, 9, 120]).draft(32)) == 2
    assert len(of([*text, 9, 120, 121]).draft(32)) == 4
    assert of([*text, 9, *range(120, 125)]).draft(32) == [*range(125, 150), 9, *range(120, 126)]


def test_a_text_without_a_match_is_not_drafted() -> None:
    assert of([1, 2, 3, 4]).draft(8) == []
    assert of([]).draft(8) == []


def test_a_text_that_goes_round_in_a_circle_is_drafted_beyond_its_end() -> None:
    assert of([7, 1, 2, 1, 2, 1, 2, 1]).draft(7) == [2, 1, 2, 1, 2, 1, 2]


def test_one_token_in_place_of_another_does_not_lose_the_place() -> None:
    original = list(range(100, 140))
    lookup = of(original)
    answer = [*original, 100, 101, 102, 55]
    lookup.take(answer[:-1], len(original))
    assert lookup.draft(2) == [103, 104]
    lookup.take(answer, len(original))
    assert lookup.draft(2) == [104]
    lookup.take([*answer, 56], len(original))
    assert lookup.draft(2) == [], "two in a row are another text"


def test_a_prediction_is_drafted_from_its_start() -> None:
    lookup = Lookup((21, 22, 23, 24))
    lookup.take([1, 2], 3, 3)  # the last token of the prompt is pending
    assert lookup.draft(3) == [21, 22, 23]
    lookup.take([1, 2, 3], 3, 21)
    assert lookup.draft(8) == [22, 23, 24], "nothing is drafted beyond the prediction"


def test_tokens_are_taken_once_pending_or_not() -> None:
    lookup = Lookup()
    lookup.take([1, 2, 3, 4], 4, 1)
    lookup.take([1, 2, 3, 4, 1], 4, 2)
    lookup.take([1, 2, 3, 4, 1, 2], 4)
    assert lookup.draft(2) == [3, 4]
    assert lookup.take([1, 2], 4) is None, "read again after its memory was needed: nothing new"
    lookup.take([1, 2, 3, 4, 1, 2, 3], 4)
    assert lookup.draft(1) == [4]


def test_a_long_prompt_is_indexed_in_parts() -> None:
    text = [*range(2 * AT_ONCE), 3, 4]
    lookup = of(text)
    assert lookup.draft(2) == [5, 6], "its first part is known at once"
    prompt = len(text)
    text += [2 * AT_ONCE - 4, 2 * AT_ONCE - 3]
    for _ in range(3):
        lookup.take(text, prompt)
    assert lookup.draft(1) == [2 * AT_ONCE - 2]


def test_a_long_context_costs_no_more_for_each_token() -> None:
    def cost(length: int) -> float:
        text = [token * 7919 % 1009 for token in range(length)]
        lookup = Lookup()
        for _ in range(length // AT_ONCE + 1):
            lookup.take(text, length)
        began = time.process_time()
        for at in range(500):
            text.append(at % LONGEST)
            lookup.take(text, length)
            lookup.draft(8)
        return time.process_time() - began

    assert cost(100_000) < 5 * cost(2_000) + 0.05
