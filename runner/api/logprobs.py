"""Log probabilities in the format of OpenAI's and Ollama's APIs."""

from msgspec import Struct

from runner.protocol.text import Logprob


class Alternative(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative, frozen=True):
    top_logprobs: list[Alternative]


def without_id(token: Logprob) -> TokenLogprob:
    """The engine's log probability without the token's id."""
    others = [Alternative(other.token, other.logprob, other.bytes) for other in token.top_logprobs]
    return TokenLogprob(token.token, token.logprob, token.bytes, others)
