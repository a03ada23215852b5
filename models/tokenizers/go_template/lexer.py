"""A Go template's text and actions, and the words of an action."""

import re
from dataclasses import dataclass

LONGEST = 1_000_000
MOST_WORDS = 100_000
_OPEN = re.compile(r"\{\{(-(?=\s))?")
_CLOSE = re.compile(r"\s+(-)\}\}|\s*\}\}")
_COMMENT = re.compile(r"\s*/\*.*?\*/", re.DOTALL)
_WORD = re.compile(
    r"""\s*(?:
    (?P<string>"(?:[^"\\\n]|\\.)*")
    | (?P<raw>`[^`]*`)
    | (?P<letter>'(?:[^'\\\n]|\\.[^'\n]{0,8})')
    | (?P<number>[-+]?(?:0[xX][0-9a-fA-F_]{1,16}|\d[\d_]{0,30}(?:\.\d{0,30})?(?:[eE][-+]?\d{1,3})?)(?!\w))
    | (?P<variable>\$\w*(?:\.[^\W\d]\w*)*)
    | (?P<field>(?:\.[^\W\d]\w*)+|\.(?!\w))
    | (?P<name>[^\W\d]\w*)
    | (?P<sign>:=|=|\||\(|\)(?:\.[^\W\d]\w*)*|,)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{3})|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))")
_ESCAPED = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'"}  # fmt: skip


class GoTemplateError(ValueError):
    """A Go template that is not valid, that does what is not supported, or that rejects its values."""


@dataclass(frozen=True)
class Word:
    """`kind` is the group of _WORD that it is."""

    kind: str
    text: str


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Action:
    words: tuple[Word, ...]
    line: int


def split(source: str) -> list[Text | Action]:
    """Text without what trim markers take away, and the actions between. Comments are left out."""
    if len(source) > LONGEST:
        raise GoTemplateError(f"it has {len(source):,} characters; at most {LONGEST:,} are allowed")
    source = source.replace("\r\n", "\n")
    parts: list[Text | Action] = []
    at, trims, line, count = 0, False, 1, 0
    while (opening := _OPEN.search(source, at)) is not None:
        _add_text(parts, source[at : opening.start()], trims, opening[1] is not None)
        line += source.count("\n", at, opening.start())
        begin = opening.start()
        words, at, trims = _action(source, opening.end(), line)
        count += len(words)
        if count > MOST_WORDS:
            raise GoTemplateError(f"its actions have more than {MOST_WORDS:,} words")
        if words:
            parts.append(Action(tuple(words), line))
        line += source.count("\n", begin, at)
    _add_text(parts, source[at:], trims, False)
    return parts


def _add_text(parts: list[Text | Action], text: str, trims_left: bool, trims_right: bool) -> None:
    space = " \t\r\n"
    text = text.lstrip(space) if trims_left else text
    text = text.rstrip(space) if trims_right else text
    if text:
        parts.append(Text(text))


def _action(source: str, start: int, line: int) -> tuple[list[Word], int, bool]:
    """The words of an action, where the text behind it begins, and whether that is trimmed."""
    comment = _COMMENT.match(source, start)
    at = start if comment is None else comment.end()
    words: list[Word] = []
    while True:
        closing = _CLOSE.match(source, at)
        if closing is not None:
            return words, closing.end(), closing[1] is not None
        word = _WORD.match(source, at)
        if word is None or word.lastgroup is None or comment is not None:
            rest = source[at : at + 40].strip()
            raise GoTemplateError(f"line {line}: {rest!r} cannot be read; is an action not closed with }}}}?")
        words.append(Word(word.lastgroup, word[word.lastgroup]))
        at = word.end()


def constant(word: Word) -> str | int | float:
    """The value of a text, a letter (which is a number in Go) or a number that is written out."""
    if word.kind == "raw":
        return word.text[1:-1]
    if word.kind == "number":
        number = word.text.replace("_", "")
        is_whole = number.lstrip("+-").isdigit() or "x" in number.lower()
        return int(number, 0 if "x" in number.lower() else 10) if is_whole else float(number)
    text = _ESCAPE.sub(_unescape, word.text[1:-1])
    if word.kind == "letter":
        if len(text) != 1:
            raise GoTemplateError(f"{word.text} is not one letter")
        return ord(text)
    return text


def _unescape(escape: re.Match[str]) -> str:
    octal, *hexadecimal, letter = escape.groups()
    if letter is not None:
        if letter not in _ESCAPED:
            raise GoTemplateError(f"{escape[0]} is not an escape of Go's")
        return _ESCAPED[letter]
    code = int(octal, 8) if octal else int(next(digits for digits in hexadecimal if digits), 16)
    if code > 0x10FFFF or 0xD800 <= code < 0xE000:
        raise GoTemplateError(f"{escape[0]} is not a letter")
    return chr(code)
