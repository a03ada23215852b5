"""The functions of a Go template: text/template's own, and those that Ollama adds."""

import html
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from urllib.parse import quote_plus

from models.tokenizers.go_template.lexer import GoTemplateError
from models.tokenizers.go_template.printf import printf
from models.tokenizers.go_template.values import Struct, Value, as_json, as_text, is_true, type_name


def call(name: str, arguments: Sequence[Value]) -> Value:
    """One of NAMES except `and` and `or`, which are the evaluator's: they leave arguments aside. Raises GoTemplateError."""
    function, least, most = FUNCTIONS[name]
    if len(arguments) < least or (most is not None and len(arguments) > most):
        needed = (
            f"{least}" if least == most else f"at least {least}" if most is None else f"{least} to {most}"
        )
        raise GoTemplateError(f"{name} has {len(arguments)} arguments; {needed} are needed")
    return function(*arguments)


def _len(value: Value) -> int:
    if isinstance(value, str):
        return len(value.encode())
    if isinstance(value, Sequence | Mapping):
        return len(value)
    raise GoTemplateError(f"len: a value of the type {type_name(value)} has no length")


def _index(value: Value, *places: Value) -> Value:
    for place in places:
        if isinstance(value, Mapping) and isinstance(place, str):
            value = value.get(place)
        elif isinstance(value, Sequence) and isinstance(place, int) and not isinstance(place, bool):
            items: Any = value.encode() if isinstance(value, str) else value
            if not 0 <= place < len(items):
                raise GoTemplateError(f"index: {place} is out of range; there are {len(items)} items")
            value = items[place]
        else:
            raise GoTemplateError(f"index: a {type_name(value)} has no item {as_text(place)[:80]!r}")
    return value


def _slice(value: Value, *bounds: Value) -> Value:
    if not isinstance(value, Sequence):
        raise GoTemplateError(f"slice: a value of the type {type_name(value)} cannot be cut")
    if not all(isinstance(bound, int) and not isinstance(bound, bool) for bound in bounds):
        raise GoTemplateError("slice: its bounds have to be numbers")
    items = value.encode() if isinstance(value, str) else value
    start, end = [*bounds, *(0, len(items))[len(bounds) :]][:2]
    if not 0 <= start <= end <= len(items) or (len(bounds) == 3 and bounds[2] < end):
        raise GoTemplateError(f"slice: {start} to {end} is out of range; there are {len(items)} items")
    part = items[start:end]
    return part.decode("utf-8", "replace") if isinstance(part, bytes) else part


def _kind(value: Value) -> str:
    kinds: list[tuple[Any, str]] = [(bool, "bool"), (int, "int"), (float, "float"), (str, "string")]
    return next((name for kind, name in kinds if isinstance(value, kind)), "")


def _equal(first: Value, *others: Value) -> bool:
    for other in others:
        if first is None or other is None:
            if first is other:
                return True
            continue
        if not _kind(first) or not _kind(other):
            raise GoTemplateError(
                f"eq: values of the types {type_name(first)} and {type_name(other)} are not compared"
            )
        if _kind(first) != _kind(other):
            raise GoTemplateError(f"eq: a {type_name(first)} and a {type_name(other)} are not comparable")
        if first == other:
            return True
    return False


def _less(first: Value, second: Value) -> bool:
    if _kind(first) != _kind(second) or _kind(first) in ("", "bool"):
        raise GoTemplateError(f"a {type_name(first)} and a {type_name(second)} have no order")
    return bool(first < second)


def _print(*values: Value) -> str:
    """With spaces between values of which neither is text."""
    text = ""
    for at, value in enumerate(values):
        apart = at and not isinstance(value, str) and not isinstance(values[at - 1], str)
        text += (" " if apart else "") + as_text(value, inside=True)
    return text


def _printf(form: Value, *values: Value) -> str:
    if not isinstance(form, str):
        raise GoTemplateError("printf: its form has to be text")
    return printf(form, values)


def _type_script(value: Value) -> Value:
    if isinstance(value, Struct) and "ToTypeScriptType" in value.fields:
        return value.fields["ToTypeScriptType"]
    raise GoTemplateError(f"toTypeScriptType: a {type_name(value)} is not a parameter of a tool")


def _date(*_: Value) -> str:
    return datetime.now().strftime("%Y-%m-%d")


# With the least and the most arguments that each takes.
FUNCTIONS: Mapping[str, tuple[Callable[..., Value], int, int | None]] = {
    "not": (lambda value: not is_true(value), 1, 1),
    "len": (_len, 1, 1),
    "index": (_index, 1, None),
    "slice": (_slice, 1, 4),
    "eq": (_equal, 2, None),
    "ne": (lambda first, second: not _equal(first, second), 2, 2),
    "lt": (_less, 2, 2),
    "le": (lambda first, second: _less(first, second) or _equal(first, second), 2, 2),
    "gt": (lambda first, second: not _less(first, second) and not _equal(first, second), 2, 2),
    "ge": (lambda first, second: not _less(first, second), 2, 2),
    "print": (_print, 0, None),
    "println": (lambda *values: " ".join(as_text(value, inside=True) for value in values) + "\n", 0, None),
    "printf": (_printf, 1, None),
    "html": (lambda *values: html.escape(_print(*values)).replace("&quot;", "&#34;").replace("&#x27;", "&#39;"), 0, None),
    "urlquery": (lambda *values: quote_plus(_print(*values)), 0, None),
    "json": (as_json, 1, 1),
    "currentDate": (_date, 0, None),
    "toTypeScriptType": (_type_script, 1, 1),
}  # fmt: skip
NAMES = frozenset(FUNCTIONS) | {"and", "or"}
