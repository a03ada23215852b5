"""What the fuzz tests share: how often hypothesis is asked, and the strange values that stand in each field of an API."""

from collections.abc import Callable, Iterator
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

# No shrinking: the example that failed says enough.
_QUIET = settings(
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)


def many(
    examples: int, *strategies: st.SearchStrategy[Any], **more: Any
) -> Callable[[Callable[..., None]], None]:
    """Call the function with this many examples. `more`: hypothesis's own settings."""

    def run(check: Callable[..., None]) -> None:
        settings(_QUIET, max_examples=examples, **more)(given(*strategies)(check))()

    return run


VALUES: list[Any] = [
    *(None, True, False, 0, -1, 1, 3.5, 1e300, 2**70, -(2**70)),
    *("", "x", "\ud800", "toy", "a\x00b", "../../etc/passwd", "é" * 300, [], {}),
    [None],
    [1, 2],
    ["a"],
    [{}],
    {"type": "x"},
    {"type": "function"},
    [{"type": "function"}],
    [{"type": "function", "function": {"name": "x", "parameters": {}}}],
    [{"type": "function", "function": {"name": "x", "parameters": {"type": 3}}}],
    {"a": 1},
    [[1]],
    [[-1]],
    [[10**9]],
    [{"role": "user"}],
    [{"role": "assistant", "tool_calls": [{}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": 3}}]}],
    [{"role": "assistant", "tool_calls": [{"function": {"name": "x", "arguments": "nope"}}]}],
    [{"role": "user", "content": [{"type": "text"}]}],
    [{"role": "user", "content": [{"type": "text", "text": "\ud800"}]}],
    "required",
    "data:;base64,xx",
    "http://x",
    {"type": "json_schema"},
    {"type": "json_schema", "json_schema": {"schema": {"$ref": "#/nope"}}},
    {"format": {"type": "json_schema"}},
    [{"type": "function", "name": 3}],
    [{"type": "function_call"}],
    [{"type": "function_call_output"}],
    [{"type": "reasoning", "content": 3}],
    [{"type": 3}],
    {"type": "allowed_tools", "tools": [3], "mode": "auto"},
    {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [{}]}},
    {"include_usage": True},
]


def strange_bodies(base: dict[str, Any], fields: str) -> Iterator[dict[str, Any]]:
    """The body with each of the fields, one after another, replaced by each strange value."""
    for field in fields.split():
        for value in VALUES:
            yield {**base, field: value}


def no_fault(status: int) -> bool:
    """Not the gateway's fault. 502: a name could be one of the hub's, which cannot be reached here."""
    return status < 500 or status == 502
