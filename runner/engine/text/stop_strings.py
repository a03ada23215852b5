"""Matches stop strings in streamed text, across any number of pieces.

Works on text, so it does not matter how it was split into tokens.
"""

from collections import deque
from collections.abc import Sequence


class _State:
    """How much of a stop string the text ends with: a node of the prefix tree of all stop strings."""

    __slots__ = ("depth", "fallback", "following", "match")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.following: dict[str, _State] = {}
        # The state of the longest proper suffix that is also the start of a stop string; None for the root.
        self.fallback: _State | None = None
        # The length of the longest stop string that ends here, or 0.
        self.match = 0

    def after(self, char: str) -> "_State":
        state = self
        while char not in state.following:
            if state.fallback is None:
                return state
            state = state.fallback
        return state.following[char]


def _automaton(stops: Sequence[str]) -> _State:
    """The prefix tree of the stop strings with fallbacks (Aho-Corasick)."""
    root = _State(0)
    for stop in stops:
        state = root
        for char in stop:
            state = state.following.setdefault(char, _State(state.depth + 1))
        state.match = len(stop)
    waiting = deque([root])
    while waiting:
        state = waiting.popleft()
        for char, child in state.following.items():
            child.fallback = root if state.fallback is None else state.fallback.after(char)
            child.match = child.match or child.fallback.match
            waiting.append(child)
    return root


class StopMatcher:
    """Passes text through up to the first stop string.

    The stop string that is complete first counts, and of several that end together the longest, so that no part of it is
    emitted. Text that may be the start of a stop string is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("a stop string is empty; it needs at least one character")
        self._state = _automaton(stops)
        self._idle = not stops
        self._held = ""
        self.matched = ""  # the stop string that ended the text

    def push(self, text: str) -> tuple[str, bool]:
        """The text that can be emitted, and whether a stop string has occurred; nothing is emitted after one."""
        if self._idle:
            return text, False
        if self.matched:
            return "", True
        state = self._state
        for index, char in enumerate(text):
            state = state.after(char)
            if state.match:
                passed = self._held + text[: index + 1]
                self.matched = passed[-state.match :]
                self._held = ""
                return passed[: -state.match], True
        self._state = state
        pending = self._held + text
        certain = len(pending) - state.depth
        self._held = pending[certain:]
        return pending[:certain], False

    def flush(self) -> str:
        """The text held back, when the answer is complete."""
        held, self._held = self._held, ""
        return held
