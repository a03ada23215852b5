"""From a toy's name to the class that draws it, the way the runner finds it."""

from importlib import import_module

from pipelines import PIPELINES
from pipelines.walk import Walk
from tests.pipelines.toys import TOYS


def pipeline_class(name: str) -> type[Walk]:
    module, _, found = PIPELINES[TOYS[name].pipeline].partition(":")
    kind = getattr(import_module(module), found)
    assert issubclass(kind, Walk)
    return kind
