"""What every API asks of a chat's messages alike."""

from collections.abc import Sequence

from msgspec import Struct

from runner.errors import BadRequest

# What a message may consist of in place of content, in any API.
INSTEAD_OF_CONTENT = ("tool_calls", "reasoning_content", "thinking", "refusal")


def check_messages(messages: Sequence[Struct]) -> None:
    if not messages:
        raise BadRequest("messages is empty; at least one message is needed")
    for index, message in enumerate(messages):
        check_content(message, f"messages[{index}]")


def check_content(message: Struct, place: str) -> None:
    """Calls, thoughts and a tool's result may stand without content; any other message without it is a mistake."""
    role, content = getattr(message, "role", ""), getattr(message, "content", None)
    instead = any(getattr(message, name, None) for name in INSTEAD_OF_CONTENT)
    if content is None and role != "tool" and not instead and not getattr(message, "images", None):
        raise BadRequest(
            f"{place}.content is missing; text is needed, unless the message has tool_calls or is a tool's result"
        )
