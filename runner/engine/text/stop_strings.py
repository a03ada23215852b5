"""Stop strings, matched across any number of pieces of text.

The text is whatever the pieces say when joined: how it was cut into tokens makes no difference to where it stops.
Knows nothing of tokens.
"""

from collections import deque
from collections.abc import Sequence


class _State:
    """How far into the stop strings the end of the text reaches: a node of their prefix tree."""

    __slots__ = ("depth", "fallback", "following", "met")

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.following: dict[str, _State] = {}
        # The state of the longest proper suffix that also begins a stop string; only the root has none.
        self.fallback: _State | None = None
        # The length of the longest stop string that ends here, 0 for none.
        self.met = 0

    def after(self, char: str) -> "_State":
        state = self
        while char not in state.following:
            if state.fallback is None:
                return state
            state = state.fallback
        return state.following[char]


def _automaton(stops: Sequence[str]) -> _State:
    """The prefix tree of the stop strings with its fallbacks (Aho and Corasick)."""
    root = _State(0)
    for stop in stops:
        state = root
        for char in stop:
            state = state.following.setdefault(char, _State(state.depth + 1))
        state.met = len(stop)
    waiting = deque([root])
    while waiting:
        state = waiting.popleft()
        for char, child in state.following.items():
            child.fallback = root if state.fallback is None else state.fallback.after(char)
            child.met = child.met or child.fallback.met
            waiting.append(child)
    return root


class StopMatcher:
    """Lets text through up to the first stop string.

    The stop that is complete first wins, and among those that end together the longest, so that nothing of it is sent.
    Text that may still become the beginning of a stop is held back.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise ValueError("a stop string is empty; it needs at least one character")
        self._state = _automaton(stops)
        self._idle = not stops
        self._held = ""
        self._met = False

    def push(self, text: str) -> tuple[str, bool]:
        """The text that may be sent now, and whether a stop string was met; nothing is sent after one."""
        if self._idle:
            return text, False
        if self._met:
            return "", True
        state = self._state
        for index, char in enumerate(text):
            state = state.after(char)
            if state.met:
                self._met = True
                seen = self._held + text[: index + 1]
                self._held = ""
                return seen[: -state.met], True
        self._state = state
        seen = self._held + text
        sent = len(seen) - state.depth
        self._held = seen[sent:]
        return seen[:sent], False

    def flush(self) -> str:
        """What was held back, now that no text follows."""
        held, self._held = self._held, ""
        return held
