"""Which model a body is for, and how long that one stays."""

from typing import Annotated

import msgspec
from msgspec import Meta, Struct

from runner.errors import BadRequest
from runner.protocol.text import parse, read_json
from runner.units import Duration, parse_duration


class LoadRequest(Struct, frozen=True):
    """`keep_alive`: a duration or seconds, 0 for not at all, below 0 for good."""

    model: Annotated[str, Meta(min_length=1)]
    keep_alive: Duration | None = None


class Addressed(LoadRequest, frozen=True):
    """What the gateway reads of a body; the rest is the runner's. `progress`: tell of the loading as well."""

    progress: bool = False
    stream: bool = True


def addressed(raw: bytes) -> Addressed:
    try:
        return msgspec.json.decode(raw, type=Addressed)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # The slower way says what is wrong.
        value = read_json(raw)
        if value.get("model", "") == "":
            raise BadRequest(
                "model is missing; name a hub repo, a model in the Ollama store, or an alias"
            ) from None
        return parse(Addressed, value)


def seconds(keep_alive: str | float | None) -> float | None:
    """keep_alive as Ollama has it: a duration, 0 for now, below 0 for good."""
    if keep_alive is None:
        return None
    try:
        return parse_duration(keep_alive)
    except ValueError as error:
        raise BadRequest(f"keep_alive: {error}; 0 ends the model at once, -1 keeps it for good") from None
