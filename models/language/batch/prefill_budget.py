"""How much of a prompt fits into a call that must not take long, learnt from the calls before."""

# What one call weighs against the next: the device may be shared, and later parts of a prompt cost more.
FADING = 0.8
# A first run compiles, and now and then a machine is busy: no call counts as more than so many times what was expected.
OUTLIER = 4
# Lengths that differ by less than this share say nothing of what a single token costs.
ALIKE = 0.05


class PrefillCostModel:
    """A call costs something fixed and something a token: short calls on a GPU are nearly all fixed cost, and cutting
    them shorter would save nothing. Both are fitted to the calls so far, the latest counting most."""

    def __init__(self) -> None:
        self._calls = 0
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        self._calls += 1
        if self._calls == 1:
            return  # it compiled
        if self._weight:
            fixed, each = self._costs()
            seconds = min(seconds, OUTLIER * (fixed + each * tokens))
        self._weight = self._weight * FADING + 1
        self._tokens = self._tokens * FADING + tokens
        self._seconds = self._seconds * FADING + seconds
        self._squares = self._squares * FADING + tokens * tokens
        self._products = self._products * FADING + tokens * seconds

    def tokens_in(self, seconds: float) -> float | None:
        """So many tokens take about so long, and never less than the fixed cost is worth. None: nothing is known."""
        if not self._weight:
            return None
        fixed, each = self._costs()
        return max(seconds - fixed, min(fixed, seconds)) / each if each else float("inf")

    def _costs(self) -> tuple[float, float]:
        """Seconds a call and seconds a token: a line through the calls."""
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - tokens * tokens
        if spread <= (ALIKE * tokens) ** 2:
            return 0.0, seconds / tokens
        each = max((self._products / self._weight - tokens * seconds) / spread, 0.0)
        fixed = max(seconds - each * tokens, 0.0)
        return (fixed, each) if fixed else (0.0, seconds / tokens)
