"""How many tokens are worth drafting, for each sequence on its own.

A draft costs a place in the step whether it is right or not. What one more place costs is measured; how often drafts are
right is known from the sequence's own past.
"""

from models.language.batch.prefill_budget import PrefillCostModel

# Weight of a token checked earlier relative to the next one.
DECAY = 0.95
# What is believed before anything was checked: that many tokens, of which so many were right.
CHECKED, RIGHT = 4.0, 3.0
# Drafting must make a step at least so much better.
GAIN = 1.05
# Steps without drafts after it did not pay; twice as many each time it still does not.
SHORTEST_REST, LONGEST_REST = 16, 512
# The price of a place relative to a step with one token a row, until it was measured.
PRICE = 0.1


class Price:
    """What one more token in a step costs, relative to the step without it, for each of its rows."""

    def __init__(self) -> None:
        self._cost = PrefillCostModel()

    def learn(self, tokens: int, seconds: float) -> None:
        self._cost.learn(tokens, seconds)

    def of(self, rows: int) -> float:
        line = self._cost.line
        if line is None:
            return PRICE
        fixed, per_token = line
        return rows * per_token / (fixed + rows * per_token)


class Policy:
    """For one sequence."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._checked, self._right = CHECKED, RIGHT
        self._rest = 0
        self._next_rest = SHORTEST_REST

    @property
    def resting(self) -> bool:
        return self._rest > 0

    def pause(self) -> None:
        """A step has passed without drafts."""
        self._rest = max(0, self._rest - 1)

    def tokens(self, price: float) -> int:
        """How many to draft now; 0 while drafting does not pay."""
        if self._rest:
            return 0
        share = self._right / self._checked
        best, most = 0, GAIN
        expected = power = 1.0
        for count in range(1, self._most + 1):
            power *= share
            expected += power
            gain = expected / (1 + count * price)
            if gain > most:
                best, most = count, gain
        return best or self._tire()

    def _tire(self) -> int:
        self._rest = self._next_rest
        self._next_rest = min(2 * self._next_rest, LONGEST_REST)
        # After the rest a few tokens decide whether it goes on.
        self._checked, self._right = CHECKED, RIGHT
        return 0

    def learn(self, drafted: int, right: int) -> None:
        """Of the tokens that were drafted, the first that is wrong is the last that was checked."""
        checked = right + (right < drafted)
        weight = DECAY**checked
        self._checked = self._checked * weight + checked
        self._right = self._right * weight + right
        if right == drafted:
            self._next_rest = SHORTEST_REST
