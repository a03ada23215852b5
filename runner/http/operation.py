"""`@operation` describes a handler by the types of its request and response; the OpenAPI document is made of these."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from msgspec import Struct

Handler = TypeVar("Handler", bound=Callable[..., Any])

NDJSON = "application/x-ndjson"
SSE = "text/event-stream"


class Refused(Struct, frozen=True):
    """An error."""

    error: str


@dataclass(frozen=True)
class Operation:
    """Types. A list means any one of them, a tuple all of them combined."""

    summary: str
    body: Any = None
    query: Any = None  # the parameters behind the path
    form: Any = None  # the body as multipart/form-data, where that is accepted too
    refused: Mapping[str, str] = field(default_factory=dict)  # unsupported fields, and why
    rules: tuple[Mapping[str, Any], ...] = ()  # constraints that types cannot express, as JSON Schema
    answer: Any = None
    plain: tuple[str, ...] = ()  # media types of responses that are not JSON
    pieces: Any = None  # the events of a stream
    error_piece: Any = None  # the event of an error that ends a stream; None: its type is `failure`
    stream: str = NDJSON  # their media type
    sentinel: str | None = None  # the data of a last event that is not JSON
    asks: bool = False  # it uses a model
    status: int = 200  # of an answer
    missing: str = ""  # what a 404 means
    failure: type = Refused
    tag: str = "native"

    @property
    def events(self) -> list[Any]:
        """The types of a stream's events. An error can end any stream, since its status has been sent by then."""
        if self.pieces is None:
            return []
        pieces = self.pieces if isinstance(self.pieces, list) else [self.pieces]
        return list(dict.fromkeys([*pieces, self.error_piece or self.failure]))


def operation(summary: str, **description: Any) -> Callable[[Handler], Handler]:
    """Describe a handler."""
    value = Operation(summary, **description)

    def decorate(handler: Handler) -> Handler:
        handler.operation = value  # type: ignore[attr-defined]
        return handler

    return decorate


def operation_of(handler: Any) -> Operation | None:
    value = getattr(handler, "operation", None)
    return value if isinstance(value, Operation) else None
