"""What a handler takes and answers, said beside it in the types that it reads and writes: OpenAPI is made of this."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

Handler = TypeVar("Handler", bound=Callable[..., Any])

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Refused(Struct, frozen=True):
    """What went wrong."""

    error: str


@dataclass(frozen=True)
class Operation:
    """Types; a list stands for any one of them, a tuple for all of them together."""

    summary: str
    body: Any = None
    form: Any = None  # the body as multipart/form-data, where that is read as well
    refused: Mapping[str, str] = field(
        default_factory=dict
    )  # fields that are known, and why they cannot be had
    rules: tuple[Mapping[str, Any], ...] = ()  # what the types of the body cannot say, as JSON Schema
    answer: Any = None
    plain: tuple[str, ...] = ()  # the media types of an answer that is no JSON
    pieces: Any = None  # of a stream
    stream: str = NDJSON  # their media type
    asks: bool = False  # a model is needed for it
    failure: type = Refused
    tag: str = "native"


def operation(summary: str, **about: Any) -> Callable[[Handler], Handler]:
    """Describe a handler."""
    found = Operation(summary, **about)

    def described(handler: Handler) -> Handler:
        handler.operation = found  # type: ignore[attr-defined]
        return handler

    return described


def operation_of(handler: Any) -> Operation | None:
    found = getattr(handler, "operation", None)
    return found if isinstance(found, Operation) else None
