"""How many prompt tokens fit into a prefill call of limited duration, estimated from earlier calls."""

# Weight of a call relative to the next one: the device may be shared, and later chunks of a prompt cost more.
DECAY = 0.8
# Some calls compile kernels or meet a busy machine: a call counts as at most this many times its expected duration.
OUTLIER = 4
# Lengths that vary by less than this fraction cannot separate the cost per token from the fixed cost.
MIN_SPREAD = 0.05


class PrefillCostModel:
    """Models the time of a prefill call as `fixed + per_token * n`, fitted online (least squares, exponentially
    weighted). Below the fixed cost, smaller chunks save nothing."""

    def __init__(self, decay: float = DECAY) -> None:
        self._decay = decay
        self._calls = 0
        self._weight = self._tokens = self._seconds = self._squares = self._products = 0.0

    def learn(self, tokens: int, seconds: float) -> None:
        self._calls += 1
        if self._calls == 1:
            return  # the first call compiles kernels
        if self._weight:
            fixed, per_token = self._costs()
            seconds = min(seconds, OUTLIER * (fixed + per_token * tokens))
        self._weight = self._weight * self._decay + 1
        self._tokens = self._tokens * self._decay + tokens
        self._seconds = self._seconds * self._decay + seconds
        self._squares = self._squares * self._decay + tokens * tokens
        self._products = self._products * self._decay + tokens * seconds

    def tokens_in(self, seconds: float) -> float | None:
        """How many tokens take about that long, at least as many as cost what a call itself does; None before any call."""
        if not self._weight:
            return None
        fixed, per_token = self._costs()
        return max(seconds - fixed, min(fixed, seconds)) / per_token if per_token else float("inf")

    @property
    def line(self) -> tuple[float, float] | None:
        """Seconds per call and seconds per token, fitted through the calls; None while these are all about as long."""
        if not self._weight:
            return None
        tokens, seconds = self._tokens / self._weight, self._seconds / self._weight
        spread = self._squares / self._weight - tokens * tokens
        if spread <= (MIN_SPREAD * tokens) ** 2:
            return None
        per_token = max((self._products / self._weight - tokens * seconds) / spread, 0.0)
        fixed = max(seconds - per_token * tokens, 0.0)
        return (fixed, per_token) if fixed else (0.0, seconds / tokens)

    def _costs(self) -> tuple[float, float]:
        """The line; without one, all of a call is taken for the cost of its tokens."""
        return self.line or (0.0, self._seconds / self._tokens)
