"""The trained weights that two packages carry, found without importing them: their code needs what is not installed."""

from importlib.metadata import PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path

import pytest

GROUPS = "uv run --group reference --group weights pytest -m weights"


def packaged(package: str, suffix: str) -> Path:
    """The one file with this ending in an installed package; the test is skipped where there is no such package."""
    try:
        files = distribution(package).files or []
    except PackageNotFoundError:
        pytest.skip(f"{package} is not installed: {GROUPS}")
    (file,) = (file for file in files if str(file).endswith(suffix))
    return Path(str(file.locate()))


def need(*modules: str) -> None:
    """Skip where a module of the groups is missing."""
    for module in modules:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed: {GROUPS}")
