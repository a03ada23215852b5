"""The nodes of a Go template's tree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, TypeAlias


@dataclass(frozen=True)
class Constant:
    """Text, a number, true, false or nil."""

    value: str | int | float | bool | None


@dataclass(frozen=True)
class Variable:
    """`$` has no name."""

    name: str


@dataclass(frozen=True)
class Dot:
    """The value that a block is about."""


@dataclass(frozen=True)
class Fields:
    """Fields of fields of a value."""

    of: "Operand"
    names: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    name: str


Operand: TypeAlias = "Constant | Variable | Dot | Fields | Function | Pipeline"


@dataclass(frozen=True)
class Pipeline:
    """Each command's value is the last argument of the next. `declares`, or assigns where it is not `new`, these variables."""

    commands: tuple[tuple[Operand, ...], ...]
    declares: tuple[str, ...] = ()
    new: bool = True


@dataclass(frozen=True)
class Plain:
    text: str


@dataclass(frozen=True)
class Output:
    pipeline: Pipeline
    line: int


@dataclass(frozen=True)
class Leave:
    kind: Literal["break", "continue"]


@dataclass(frozen=True)
class Branch:
    kind: Literal["if", "with", "range"]
    pipeline: Pipeline
    line: int
    body: "tuple[Node, ...]" = ()
    other: "tuple[Node, ...]" = field(default=())


@dataclass(frozen=True)
class Include:
    """A template that is defined in this one, with a value as its dot and its `$`."""

    name: str
    pipeline: Pipeline | None
    line: int


Node: TypeAlias = Plain | Output | Leave | Branch | Include


@dataclass(frozen=True)
class Tree:
    """`defined`: the templates in it by their names. `fields`: all names of fields that are used anywhere."""

    nodes: tuple[Node, ...]
    defined: Mapping[str, tuple[Node, ...]]
    fields: frozenset[str]
