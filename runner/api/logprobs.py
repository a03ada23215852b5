"""Log probabilities as OpenAI's API and Ollama's write them."""

from typing import Any

from msgspec import Struct


class Alternative(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]


class TokenLogprob(Alternative, frozen=True):
    top_logprobs: list[Alternative]


def logprob(token: dict[str, Any]) -> TokenLogprob:
    """A native log probability without its id."""
    others = [
        Alternative(other["token"], other["logprob"], other["bytes"]) for other in token["top_logprobs"]
    ]
    return TokenLogprob(token["token"], token["logprob"], token["bytes"], others)
