"""The words of a Go template to a tree."""

from collections.abc import Sequence
from dataclasses import replace

from models.tokenizers.go_template.functions import NAMES
from models.tokenizers.go_template.lexer import Action, GoTemplateError, Text, Word, constant, split
from models.tokenizers.go_template.nodes import (
    Branch,
    Constant,
    Dot,
    Fields,
    Function,
    Include,
    Leave,
    Node,
    Operand,
    Output,
    Pipeline,
    Plain,
    Tree,
    Variable,
)

DEEPEST = 40  # blocks in blocks, and brackets in brackets
MOST_DEFINED = 100
_BRANCHES = ("if", "with", "range")
_WORDS = {"true": True, "false": False, "nil": None}


def parse(source: str) -> Tree:
    """Raises GoTemplateError."""
    parts = split(source)
    parser = _Parser(parts)
    nodes, _ = parser.block((), 0)
    words = [word for part in parts if isinstance(part, Action) for word in part.words]
    fields = {
        name for word in words if "." in word.text for name in word.text.split(".")[1:] if _has_fields(word)
    }
    return Tree(nodes, parser.defined, frozenset(fields - {""}))


def _has_fields(word: Word) -> bool:
    return word.kind in ("field", "variable", "sign")


class _Parser:
    def __init__(self, parts: Sequence[Text | Action]) -> None:
        self._parts = parts
        self._at = 0
        self.defined: dict[str, tuple[Node, ...]] = {}

    def block(
        self, ends: Sequence[str], depth: int, in_loop: bool = False
    ) -> tuple[tuple[Node, ...], Action | None]:
        """The nodes up to an action that begins with one of `ends`, and that action."""
        if depth > DEEPEST:
            raise GoTemplateError(f"it has more than {DEEPEST} blocks inside each other")
        nodes: list[Node] = []
        while self._at < len(self._parts):
            part = self._parts[self._at]
            self._at += 1
            if isinstance(part, Text):
                nodes.append(Plain(part.text))
                continue
            first = part.words[0].text
            if first in ends:
                return tuple(nodes), part
            node = self._node(part, first, depth, in_loop)
            nodes += [node] if node is not None else []
        if ends:
            raise GoTemplateError("it ends inside of a block: an {{ end }} is missing")
        return tuple(nodes), None

    def _node(self, action: Action, first: str, depth: int, in_loop: bool) -> Node | None:
        if first in _BRANCHES:
            return self._branch(first, action, action.words[1:], depth, in_loop)
        if first in ("break", "continue") and len(action.words) == 1:
            if not in_loop:
                raise GoTemplateError(f"line {action.line}: {first} is outside of a range")
            return Leave("break" if first == "break" else "continue")
        if first in ("define", "block"):
            return self._define(first, action, depth)
        if first == "template":
            return self._include(action)
        if first in ("else", "end"):
            raise GoTemplateError(f"line {action.line}: {first} is outside of a block")
        return Output(_pipeline(action.words, action.line), action.line)

    def _branch(self, kind: str, action: Action, words: Sequence[Word], depth: int, in_loop: bool) -> Branch:
        branch = Branch(kind, _pipeline(words, action.line), action.line)  # type: ignore[arg-type]
        if len(branch.pipeline.declares) == 2 and kind != "range":
            raise GoTemplateError(f"line {action.line}: only a range has two variables")
        body, end = self.block(("else", "end"), depth + 1, in_loop or kind == "range")
        other: tuple[Node, ...] = ()
        if end is not None and end.words[0].text == "else":
            rest = end.words[1:]
            if rest and rest[0].text not in ("if", "with"):
                raise GoTemplateError(f"line {end.line}: {rest[0].text!r} is not expected behind else")
            if rest:  # a block of its own, which ends with this one
                other = (self._branch(rest[0].text, end, rest[1:], depth + 1, in_loop),)
            else:
                other, _ = self.block(("end",), depth + 1, in_loop)
        return replace(branch, body=body, other=other)

    def _define(self, kind: str, action: Action, depth: int) -> Include | None:
        """A template; a `block` is one that stands here as well."""
        include = self._include(action)
        if kind == "define" and (depth or include.pipeline is not None):
            raise GoTemplateError(
                f"line {action.line}: a define stands outside of blocks and has a name alone"
            )
        if len(self.defined) == MOST_DEFINED:
            raise GoTemplateError(f"it defines more than {MOST_DEFINED} templates")
        body, _ = self.block(("end",), depth + 1)
        self.defined[include.name] = body
        return include if kind == "block" else None

    def _include(self, action: Action) -> Include:
        if len(action.words) < 2 or action.words[1].kind not in ("string", "raw"):
            raise GoTemplateError(f"line {action.line}: {action.words[0].text} needs a name in quotes")
        rest = action.words[2:]
        return Include(
            str(constant(action.words[1])), _pipeline(rest, action.line) if rest else None, action.line
        )


def _pipeline(words: Sequence[Word], line: int) -> Pipeline:
    names, new, words = _declarations(words, line)
    reader = _Words(words, line)
    pipeline = reader.pipeline(0)
    if reader.left():
        raise GoTemplateError(f"line {line}: {reader.left()!r} is not expected there")
    return replace(pipeline, declares=names, new=new)


def _declarations(words: Sequence[Word], line: int) -> tuple[tuple[str, ...], bool, Sequence[Word]]:
    at = next(
        (at for at, word in enumerate(words[:4]) if word.text in (":=", "=") and word.kind == "sign"), None
    )
    if at is None:
        return (), True, words
    before = words[:at]
    names = tuple(word.text[1:] for word in before[::2])
    is_list = all(word.kind == "variable" and word.text[1:].isidentifier() for word in before[::2])
    if not is_list or at not in (1, 3) or any(word.text != "," for word in before[1::2]):
        raise GoTemplateError(f"line {line}: one or two variables are expected before {words[at].text}")
    return names, words[at].text == ":=", words[at + 1 :]


class _Words:
    def __init__(self, words: Sequence[Word], line: int) -> None:
        self._words = list(reversed(words))
        self._line = line

    def left(self) -> str:
        return self._words[-1].text if self._words else ""

    def pipeline(self, depth: int) -> Pipeline:
        if depth > DEEPEST:
            raise GoTemplateError(f"line {self._line}: more than {DEEPEST} brackets inside each other")
        commands = [self._command(depth)]
        while self._take("|") is not None:
            commands.append(self._command(depth))
        return Pipeline(tuple(commands))

    def _take(self, sign: str) -> Word | None:
        if self._words and self._words[-1].kind == "sign" and self._words[-1].text.startswith(sign):
            return self._words.pop()
        return None

    def _command(self, depth: int) -> tuple[Operand, ...]:
        operands: list[Operand] = []
        while self._words and not (self._words[-1].kind == "sign" and self._words[-1].text[0] in "|)"):
            operands.append(self._operand(depth))
        if not operands:
            raise GoTemplateError(f"line {self._line}: a value is missing")
        return tuple(operands)

    def _operand(self, depth: int) -> Operand:
        word = self._words.pop()
        match word.kind:
            case "string" | "raw" | "letter" | "number":
                try:
                    return Constant(constant(word))
                except ValueError as error:
                    raise GoTemplateError(f"line {self._line}: {error}") from error
            case "variable":
                name, *fields = word.text[1:].split(".")
                return _of(Variable(name), fields)
            case "field":
                return _of(Dot(), word.text[1:].split(".") if word.text != "." else [])
            case "name":
                return Constant(_WORDS[word.text]) if word.text in _WORDS else self._function(word.text)
        if word.text != "(":
            raise GoTemplateError(f"line {self._line}: {word.text!r} is not expected there")
        pipeline = self.pipeline(depth + 1)
        closing = self._take(")")
        if closing is None:
            raise GoTemplateError(f"line {self._line}: a ) is missing")
        return _of(pipeline, closing.text[2:].split(".") if len(closing.text) > 1 else [])

    def _function(self, name: str) -> Function:
        if name not in NAMES:
            names = ", ".join(sorted(NAMES))
            raise GoTemplateError(
                f"line {self._line}: the function {name[:80]!r} is not supported; these are: {names}"
            )
        return Function(name)


def _of(value: Operand, names: Sequence[str]) -> Operand:
    return Fields(value, tuple(names)) if names else value
