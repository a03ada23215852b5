"""How many tokens to draft for each sequence.

A drafted token adds to the cost of a step whether it is accepted or not. That cost is measured; the share of accepted
tokens is known from the sequence's own past.
"""

from models.language.batch.prefill_budget import PrefillCostModel

# Weight of a token checked earlier relative to the next one.
DECAY = 0.95
# What is assumed before anything was checked: that many tokens, of which so many were accepted.
CHECKED, ACCEPTED = 4.0, 2.0
# Drafting must gain at least so much: what it drafts is read before the next step begins, so that the device waits.
GAIN = 1.2
# Steps without drafts after drafting did not pay off; twice as many each time it still does not.
SHORTEST_REST, LONGEST_REST = 16, 512
# Steps after a rest, and tokens drafted in each, before it is judged again.
TRIAL, TRIAL_TOKENS = 2, 2
# The price of a token relative to a step with one token a row, until enough steps have been measured.
PRICE = 0.1
MEASURED = 12
MEASURED_DECAY = 0.97  # slow: on a busy machine steps vary much


class Price:
    """What one more token in a step costs, relative to the step without it, for each of its rows."""

    def __init__(self) -> None:
        self._cost = PrefillCostModel(MEASURED_DECAY)
        self._steps = 0

    def learn(self, tokens: int, seconds: float) -> None:
        self._steps += 1
        self._cost.learn(tokens, seconds)

    def of(self, rows: int) -> float:
        line = self._cost.line
        if line is None or self._steps < MEASURED:
            return PRICE
        fixed, per_token = line
        return rows * per_token / (fixed + rows * per_token)


class Policy:
    """For one sequence."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._checked, self._accepted = CHECKED, ACCEPTED
        self._rest = self._trial = 0
        self._next_rest = SHORTEST_REST

    @property
    def resting(self) -> bool:
        return self._rest > 0

    def pause(self) -> None:
        """A step has passed without drafts."""
        self._rest = max(0, self._rest - 1)

    def tokens(self, price: float) -> int:
        """How many to draft now; 0 while drafting does not pay off."""
        if self._rest:
            return 0
        if self._trial:
            return min(TRIAL_TOKENS, self._most)
        share = self._accepted / self._checked
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
        self._trial = TRIAL
        self._checked, self._accepted = CHECKED, ACCEPTED
        return 0

    def learn(self, drafted: int, accepted: int) -> None:
        """The first token that is not accepted is the last that was checked."""
        self._trial = max(0, self._trial - 1)
        checked = accepted + (accepted < drafted)
        weight = DECAY**checked
        self._checked = self._checked * weight + checked
        self._accepted = self._accepted * weight + accepted
        if not self._trial and accepted == drafted:
            self._next_rest = SHORTEST_REST
