"""A field more in `ImageParameters`, for processes that call `add_field` before they import pipelines."""

import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from tests import ROOT

NAME = "pipelines.parameters"
MARK = "    def __post_init__"
FIELD = """    tiling: Annotated[
        bool, about("make the opposite edges fit together", family_specific=True)
    ] = False

"""


class Added(MetaPathFinder, Loader):
    """Finds the module, and runs it with the field."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == NAME else None

    def exec_module(self, module: ModuleType) -> None:
        path = ROOT / "pipelines" / "parameters.py"
        head, mark, rest = path.read_text().partition(MARK)
        exec(compile(head + FIELD + mark + rest, path, "exec"), module.__dict__)


def add_field() -> None:
    sys.meta_path.insert(0, Added())
