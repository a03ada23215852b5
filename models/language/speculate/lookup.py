"""Drafts from what a text repeats: the tokens that followed its last words where they stood before.

Pairs of tokens are indexed as they come, each with the place before that has the same pair. A search follows such a
chain and takes the longest match, so it costs the same however long the text is.
"""

from collections.abc import Sequence

from models.language.pictures.tokens import is_picture

# Places of a pair that are compared, latest first, and tokens by which they are.
MOST_PLACES, LONGEST = 32, 16
# Tokens indexed at a time: a prompt of 100,000 takes a few steps, in which the first part can be used already.
AT_ONCE = 8192
BORDER = -1  # between two texts, and where pictures are; no draft goes beyond it


class Lookup:
    """The text of one sequence, and before it what its answer is likely to repeat."""

    def __init__(self, prediction: Sequence[int] = ()) -> None:
        self._text = [*prediction, BORDER] if prediction else []
        self._taken = 0  # of the sequence's own tokens
        self._indexed = 0
        self._latest: dict[tuple[int, int], int] = {}  # where a pair was continued last
        self._before: list[int] = []  # for each place, the one before it with the same pair
        self._single: dict[int, int] = {}
        # Where the text is being repeated from, and for how many tokens it has been.
        self._place: int | None = 0 if prediction else None
        self._matched = LONGEST if prediction else 0

    def take(self, tokens: Sequence[int], prompt: int, pending: int | None = None) -> None:
        """All tokens of the sequence so far, of which the first `prompt` are its prompt; and the one after them."""
        for at in range(self._taken, len(tokens)):
            self._append(tokens[at], at >= prompt)
        if pending is not None and self._taken == len(tokens):
            self._append(pending, len(tokens) >= prompt)
        self._index()

    def _append(self, token: int, answer: bool) -> None:
        if answer:
            self._follow(token)
        self._text.append(BORDER if is_picture(token) else token)
        self._taken += 1

    def _follow(self, token: int) -> None:
        place = self._place
        if place is None:
            return
        same = place < len(self._text) and self._text[place] == token
        # Where one token stands for another, what comes after it may be the same again.
        self._place = place + 1 if same or self._matched else None
        self._matched = min(self._matched + 1, LONGEST) if same else 0

    def _index(self) -> None:
        text = self._text
        end = min(len(text), self._indexed + AT_ONCE)
        for at in range(self._indexed, end):
            pair = (text[at - 2], text[at - 1]) if at > 1 else (BORDER, BORDER)
            self._before.append(self._latest.get(pair, -1))
            self._latest[pair] = at
            if at:
                self._single[text[at - 1]] = at
        self._indexed = end

    def draft(self, most: int) -> list[int]:
        """Up to so many of the next tokens; more of them the longer the match. Empty: there is no match."""
        if self._matched < LONGEST:
            self._search()
        if self._place is None:
            return []
        draft: list[int] = []
        for place in range(self._place, self._place + min(most, 1 << self._matched)):
            beyond = place - len(self._text)
            token = self._text[place] if beyond < 0 else draft[beyond]  # a text that goes round in a circle
            if token == BORDER:
                break
            draft.append(token)
        return draft

    def _search(self) -> None:
        """A longer match than the one that is followed, if there is any."""
        text = self._text
        if len(text) < 2 or BORDER in text[-2:]:
            return
        place = self._latest.get((text[-2], text[-1]), -1)
        for _ in range(MOST_PLACES):
            if place < 0:
                break
            matched = self._common(place)
            if matched > self._matched:
                self._place, self._matched = place, matched
            place = self._before[place]
        if self._place is None and text[-1] in self._single:
            self._place, self._matched = self._single[text[-1]], 1

    def _common(self, place: int) -> int:
        """How many tokens before this place are those at the end of the text."""
        text, end = self._text, len(self._text)
        for back in range(1, LONGEST + 1):
            if back > place or text[place - back] != text[end - back]:
                return back - 1
        return LONGEST
