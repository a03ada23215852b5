"""A parameter of a picture, taken apart: what the type of a field says of its limits, its help, and where it is shown."""

import types
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from msgspec import Meta, Struct
from msgspec.structs import fields

# Where the page has a parameter: beside the seed, beside the mask, or under "More options".
Group = Literal["main", "mask", "more"]


def about(
    help: str,
    *,
    unset: str = "",
    label: str = "",
    group: Group = "more",
    flag: str = "",
    family_specific: bool = False,
) -> Meta:
    """What a parameter's type does not say: what applies when it is `unset`; its `label` and `group` in the page's form; its
    `flag` of `diptych draw`. Label and flag follow from the name otherwise. `family_specific` ones have an effect on the
    models that list them in `Defaults.supported_params`, and give a warning on others."""
    extra = {"hint": help, "label": label, "group": group, "flag": flag, "family_specific": family_specific}
    return Meta(description=f"{help} (default: {unset})" if unset else help, extra=extra)


@dataclass(frozen=True)
class Parameter:
    """A field of a struct of parameters."""

    name: str
    type: Any  # without None
    default: Any  # NODEFAULT: it is required
    help: str = ""
    hint: str = ""  # the help, without the default
    label: str = ""
    group: Group = "more"
    flag: str = ""
    family_specific: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def item(self) -> Any:
        """The type of the items of a list; None of what is not one."""
        return _taken_apart(get_args(self.type)[0])[0] if get_origin(self.type) is tuple else None


@cache
def parameters_of(kind: type[Struct]) -> tuple[Parameter, ...]:
    """All fields of such a struct."""
    return tuple(_parameter(field.name, field.type, field.default) for field in fields(kind))


def _parameter(name: str, annotation: Any, default: Any) -> Parameter:
    kind, metas = _taken_apart(annotation)
    extra: dict[str, Any] = {}
    for meta in metas:
        extra |= {"help": meta.description} if meta.description else {}
        extra |= {"least": meta.ge, "most": meta.le} if meta.ge is not None else {}
        extra |= meta.extra or {}
    extra["flag"] = extra.get("flag") or f"--{name.replace('_', '-')}"
    extra["label"] = extra.get("label") or name.replace("_", " ").capitalize()
    return Parameter(name, kind, default, **extra)


def _taken_apart(annotation: Any) -> tuple[Any, list[Meta]]:
    """The plain type in an annotation, without None, and what is said about it."""
    if get_origin(annotation) is Annotated:
        inner, *metas = get_args(annotation)
        kind, more = _taken_apart(inner)
        return kind, [*more, *metas]
    if get_origin(annotation) in (Union, types.UnionType):
        (inner,) = (one for one in get_args(annotation) if one is not type(None))
        return _taken_apart(inner)
    return annotation, []
