"""Leaves out the oldest messages of a conversation that does not fit into the context, as Ollama does."""

from bisect import bisect_left
from collections.abc import Callable

from msgspec.structs import replace

from runner.protocol.text import TextRequest

# Of the context: what is kept free for the answer, if that may be as long, and how much is left out at a time. Several turns are
# then cut at the same message, so the prefix cache has what they begin with.
ROOM_SHARE = 8
STEP_SHARE = 4


def truncate(
    request: TextRequest, total: int, count: Callable[[TextRequest], int], context: int, answer: int
) -> TextRequest:
    """The request, without its oldest messages where that is needed. System messages and the last turn of the user stay.

    `total`: the tokens of its prompt; `count` counts those of another; `answer`: of the longest answer.
    """
    messages = request.messages or []
    room = min(answer, context // ROOM_SHARE)
    cuts = [place for place, message in enumerate(messages) if place and message.role == "user"]
    if total + room <= context or not cuts:
        return request
    step = max(context // STEP_SHARE, 1)
    most = total - -((context - room - total) // step) * step
    place = bisect_left(cuts, True, key=lambda cut: count(_without(request, cut)) <= most)
    return _without(request, cuts[min(place, len(cuts) - 1)])


def _without(request: TextRequest, cut: int) -> TextRequest:
    messages = request.messages or []
    system = [message for message in messages[:cut] if message.role in ("system", "developer")]
    return replace(request, messages=[*system, *messages[cut:]])


def cut(tokens: list[int], context: int, keep: int) -> list[int]:
    """Without tokens behind the first `keep`, so that half of the rest of the context is free."""
    most = context - 1
    keep = most if keep < 0 else min(keep, most)
    rest = (most - keep + 1) // 2
    return tokens[:keep] + tokens[len(tokens) - rest :]


def cut_note(total: int, left: int, context: int) -> str:
    return f"prompt: {total - left} of its {total} tokens were left out; all do not fit into the context of {context} tokens"


def note(request: TextRequest, shorter: TextRequest, context: int) -> str:
    """What was left out, for the answer's warnings."""
    left_out = len(request.messages or []) - len(shorter.messages or [])
    oldest = "oldest message was" if left_out == 1 else f"{left_out} oldest messages were"
    return f"messages: the {oldest} left out; all do not fit into the context of {context} tokens"
