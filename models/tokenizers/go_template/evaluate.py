"""Evaluates a Go template: within a number of steps, a depth and a length of its text."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from models.tokenizers.go_template.functions import call
from models.tokenizers.go_template.lexer import GoTemplateError
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
from models.tokenizers.go_template.values import Struct, Value, as_text, is_true, type_name

_Left = Literal["break", "continue"] | None


@dataclass(frozen=True)
class Limits:
    """`characters`: of the text that is written, and of every text that a function makes."""

    steps: int = 5_000_000
    depth: int = 60
    characters: int = 64 * 1024 * 1024


def evaluate(tree: Tree, nodes: Sequence[Node], root: Value, limits: Limits) -> str:
    """`nodes`: those of the tree, or a part of them. Raises GoTemplateError, with the line of what failed."""
    evaluation = _Evaluation(tree, limits)
    evaluation.template(nodes, root, 0)
    return "".join(evaluation.parts)


class _Evaluation:
    def __init__(self, tree: Tree, limits: Limits) -> None:
        self._tree, self._limits = tree, limits
        self._steps = self._length = 0
        self._depth = 0
        self._variables: list[tuple[str, Value]] = []  # the last of a name is the one that is seen
        self.parts: list[str] = []

    def template(self, nodes: Sequence[Node], root: Value, line: int) -> None:
        outer, self._variables = self._variables, [("", root)]
        self._block(nodes, root, line)
        self._variables = outer

    def _step(self, line: int) -> None:
        self._steps += 1
        if self._steps > self._limits.steps:
            raise GoTemplateError(f"line {line}: it takes more than {self._limits.steps:,} steps")

    def _write(self, text: str, line: int) -> None:
        self._length += len(text)
        self._check_length(self._length, line)
        self.parts.append(text)

    def _check_length(self, length: int, line: int) -> None:
        if length > self._limits.characters:
            raise GoTemplateError(f"line {line}: it writes more than {self._limits.characters:,} characters")

    def _block(self, nodes: Sequence[Node], dot: Value, line: int) -> _Left:
        self._depth += 1
        if self._depth > self._limits.depth:
            raise GoTemplateError(f"line {line}: more than {self._limits.depth} blocks inside each other")
        seen = len(self._variables)
        left: _Left = None
        for node in nodes:
            left = self._node(node, dot)
            if left is not None:
                break
        del self._variables[seen:]
        self._depth -= 1
        return left

    def _node(self, node: Node, dot: Value) -> _Left:
        self._step(getattr(node, "line", 0))
        match node:
            case Plain(text):
                self._write(text, 0)
            case Leave(kind):
                return kind
            case Output(pipeline, line):
                value = self._pipeline(pipeline, dot, line)
                if not pipeline.declares:
                    self._write(as_text(value), line)
            case Include(name, pipeline, line):
                if name not in self._tree.defined:
                    raise GoTemplateError(f"line {line}: the template {name[:80]!r} is not defined")
                root = None if pipeline is None else self._pipeline(pipeline, dot, line)
                self.template(self._tree.defined[name], root, line)
            case Branch():
                return self._branch(node, dot)
        return None

    def _branch(self, branch: Branch, dot: Value) -> _Left:
        seen = len(self._variables)
        if branch.kind == "range":
            left = self._loop(branch, dot)
        else:
            value = self._pipeline(branch.pipeline, dot, branch.line)
            inner = value if branch.kind == "with" and is_true(value) else dot
            left = self._block(branch.body if is_true(value) else branch.other, inner, branch.line)
        del self._variables[seen:]
        return left

    def _loop(self, branch: Branch, dot: Value) -> _Left:
        value = self._pipeline(branch.pipeline, dot, branch.line, assigns=False)
        items = _items(value, branch.line)
        if not items:
            return self._block(branch.other, dot, branch.line)
        for key, item in items:
            self._step(branch.line)
            seen = len(self._variables)
            names = branch.pipeline.declares
            for name, each in zip(names, (key, item) if len(names) == 2 else (item,), strict=False):
                self._set(name, each, branch.pipeline.new, branch.line)
            left = self._block(branch.body, item, branch.line)
            del self._variables[seen:]
            if left == "break":
                break
        return None

    def _set(self, name: str, value: Value, new: bool, line: int) -> None:
        if new:
            self._variables.append((name, value))
            return
        for at in range(len(self._variables) - 1, -1, -1):
            if self._variables[at][0] == name:
                self._variables[at] = (name, value)
                return
        raise GoTemplateError(f"line {line}: the variable ${name} is not defined")

    def _pipeline(self, pipeline: Pipeline, dot: Value, line: int, assigns: bool = True) -> Value:
        value: Value = None
        for at, command in enumerate(pipeline.commands):
            value = self._command(command, [value] if at else [], dot, line)
        if assigns and pipeline.declares:
            self._set(pipeline.declares[0], value, pipeline.new, line)
        return value

    def _command(self, command: Sequence[Operand], last: list[Value], dot: Value, line: int) -> Value:
        first, *rest = command
        if isinstance(first, Function):
            return self._call(first.name, rest, last, dot, line)
        if rest or last:
            raise GoTemplateError(f"line {line}: a value that is not a function has arguments")
        return self._operand(first, dot, line)

    def _call(
        self, name: str, operands: Sequence[Operand], last: list[Value], dot: Value, line: int
    ) -> Value:
        if name in ("and", "or"):
            return self._first(name == "or", operands, last, dot, line)
        arguments = [self._operand(operand, dot, line) for operand in operands] + last
        try:
            value = call(name, arguments)
        except GoTemplateError as error:
            raise GoTemplateError(f"line {line}: {error}") from error
        if isinstance(value, str):
            self._check_length(len(value), line)
        return value

    def _first(
        self, wanted: bool, operands: Sequence[Operand], last: list[Value], dot: Value, line: int
    ) -> Value:
        """The first argument that is true, or the first that is not, or else the last one."""
        if not operands and not last:
            raise GoTemplateError(f"line {line}: {'or' if wanted else 'and'} needs a value")
        value: Value = None
        for operand in operands:
            value = self._operand(operand, dot, line)
            if is_true(value) == wanted:
                return value
        return last[0] if last else value

    def _operand(self, operand: Operand, dot: Value, line: int) -> Value:
        self._step(line)
        match operand:
            case Constant(value):
                return value
            case Dot():
                return dot
            case Variable(name):
                return self._variable(name, line)
            case Fields(of, names):
                value = self._operand(of, dot, line)
                for name in names:
                    value = _field(value, name, line)
                return value
            case Function(name):
                return self._call(name, (), [], dot, line)
            case Pipeline():
                return self._pipeline(operand, dot, line)

    def _variable(self, name: str, line: int) -> Value:
        for known, value in reversed(self._variables):
            if known == name:
                return value
        raise GoTemplateError(f"line {line}: the variable ${name} is not defined")


def _items(value: Value, line: int) -> Sequence[tuple[Value, Value]]:
    if value is None:
        return ()
    if isinstance(value, Mapping):
        return [(key, value[key]) for key in sorted(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return _Numbers(value)
    if isinstance(value, Sequence) and not isinstance(value, str):
        return list(enumerate(value))
    raise GoTemplateError(f"line {line}: a range over a {type_name(value)} is not possible")


class _Numbers(Sequence[tuple[int, int]]):
    """What a range over a number goes through, which may be a large one."""

    def __init__(self, count: int) -> None:
        self._range = range(max(0, min(count, 2**62)))

    def __len__(self) -> int:
        return len(self._range)

    def __getitem__(self, at: int) -> tuple[int, int]:  # type: ignore[override]
        return self._range[at], self._range[at]


def _field(value: Value, name: str, line: int) -> Value:
    if isinstance(value, Struct):
        if name in value.fields:
            return value.fields[name]
        known = ", ".join(f".{field}" for field in value.fields)
        raise GoTemplateError(f"line {line}: .{name[:80]} is not a field of {value.type}, which has {known}")
    if isinstance(value, Mapping):
        return value.get(name)
    raise GoTemplateError(f"line {line}: a {type_name(value)} has no field .{name[:80]}")
