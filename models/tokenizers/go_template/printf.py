"""Go's fmt.Sprintf, for the verbs that templates use."""

import json
import re
from collections.abc import Sequence

from models.tokenizers.go_template.lexer import GoTemplateError
from models.tokenizers.go_template.values import Value, as_text, type_name

WIDEST = 1000
_VERB = re.compile(r"%([-+# 0]{0,5})(\d{0,4})(?:\.(\d{0,4}))?(.)", re.DOTALL)
_TYPES = {"d": int, "x": (int, str), "X": (int, str), "c": int, "q": str, "t": bool, "f": (int, float), "e": (int, float), "g": (int, float)}  # fmt: skip


def printf(form: str, values: Sequence[Value]) -> str:
    """Raises GoTemplateError for other verbs, and for values that do not fit them, where Go writes what is wrong."""
    parts, at, rest = [], 0, list(values)
    for verb in _VERB.finditer(form):
        parts.append(form[at : verb.start()])
        at = verb.end()
        parts.append(_written(verb, rest))
    if "%" in form[at:]:
        raise GoTemplateError(f"printf: {form[-20:]!r} ends inside of a verb")
    if rest:
        raise GoTemplateError(f"printf has {len(rest)} values more than verbs")
    return "".join(parts) + form[at:]


def _written(verb: re.Match[str], rest: list[Value]) -> str:
    flags, width, precision, letter = verb.groups()
    if letter == "%":
        return "%"
    if letter not in "svdqtxXcfeg":
        raise GoTemplateError(
            f"printf: %{letter} is not supported; these are: %s %v %d %q %t %x %X %c %f %e %g %%"
        )
    if not rest:
        raise GoTemplateError(f"printf has no value for {verb[0]}")
    value = rest.pop(0)
    if int(width or 0) > WIDEST or int(precision or 0) > WIDEST:
        raise GoTemplateError(f"printf: {verb[0]} is wider than {WIDEST}")
    kind = _TYPES.get(letter)
    if kind is not None and (not isinstance(value, kind) or (isinstance(value, bool) and letter != "t")):  # type: ignore[arg-type]
        raise GoTemplateError(f"printf: {verb[0]} does not write a value of the type {type_name(value)}")
    text = _text(letter, value, precision)
    if "+" in flags and not isinstance(value, str | bool) and isinstance(value, int | float) and value >= 0:
        text = "+" + text
    if "-" in flags:
        return text.ljust(int(width or 0))
    number = isinstance(value, int | float) and "0" in flags
    return text.zfill(int(width or 0)) if number else text.rjust(int(width or 0))


def _text(letter: str, value: Value, precision: str | None) -> str:
    match letter:
        case "q":
            return json.dumps(value, ensure_ascii=False)
        case "c":
            if not 0 <= value < 0x110000 or 0xD800 <= value < 0xE000:
                return "\ufffd"
            return chr(value)
        case "x" | "X" if isinstance(value, str):
            text = value.encode().hex()
            return text.upper() if letter == "X" else text
        case "x" | "X":
            return format(value, letter)
        case "f" | "e":
            return format(value, f".{precision or ('0' if precision == '' else '6')}{letter}")
        case "g" if precision:
            return format(value, f".{precision}g")
    text = as_text(value)
    return text[: int(precision or 0)] if precision is not None and isinstance(value, str) else text
