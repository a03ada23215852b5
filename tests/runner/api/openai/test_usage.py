"""What is counted in a usage."""

from runner.api.openai.sampling import usage
from runner.protocol.text import TextDone


def test_drafted_tokens_are_counted_over_all_choices_by_whether_they_were_right() -> None:
    done = [TextDone(0, "stop", 9, 1, 20, 1, 4, drafted=12, accepted=9), TextDone(0, "stop", 9, 1, 5, 1, 4)]
    found = usage(done, thoughts=3)
    assert (found.prompt_tokens, found.completion_tokens, found.total_tokens) == (9, 25, 34)
    details = found.completion_tokens_details
    assert (
        details.reasoning_tokens,
        details.accepted_prediction_tokens,
        details.rejected_prediction_tokens,
    ) == (3, 9, 3)
