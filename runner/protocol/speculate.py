"""The option `speculate`: whether tokens are drafted ahead of the model for one request, and how many."""

from typing import Annotated, Any, Literal

from msgspec import Meta

from runner.errors import BadRequest
from runner.protocol.validation import shown

# Drafted tokens of one text in one step, at most.
MOST_DRAFTED = 32
DRAFTED = 16  # by default
ALLOWED = f'"lookup", "off", false, or how many tokens to draft at most (0 to {MOST_DRAFTED})'

# A value of any type, so that whatever is not allowed gets the same message.
Speculate = Annotated[
    Any,
    Meta(
        description=f"{ALLOWED}; by default what the runner was started with",
        extra_json_schema={
            "anyOf": [
                {"enum": [None, "lookup", "off", False]},
                {"type": "integer", "minimum": 0, "maximum": MOST_DRAFTED},
            ]
        },
    ),
]


def read_speculate(value: Any, name: str) -> Literal["lookup"] | int | None:
    """ "lookup", or the number of tokens, 0 for none; None: what the runner was started with. `name`: of the field."""
    if value is None:
        return None
    if value == "lookup":
        return "lookup"
    if value is False or value == "off":
        return 0
    if isinstance(value, int | float) and value is not True and value in range(MOST_DRAFTED + 1):
        return int(value)
    raise BadRequest(f"{name}: {shown(value)} is not allowed; {ALLOWED} is needed")
