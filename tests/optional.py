"""Packages that some tests need: these are skipped without them, and only what uses such a package imports it."""

import importlib
import importlib.util
from typing import Any

import pytest


class _Later:
    """A module that is imported when something of it is used: for some that takes seconds, in each worker."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        if attribute.startswith("_"):
            raise AttributeError(attribute)  # pytest looks at whatever stands in a file of tests
        return getattr(importlib.import_module(self._name), attribute)


def needed(name: str, reason: str) -> Any:
    """The module, at the top of a file whose tests are skipped where it is not installed."""
    if importlib.util.find_spec(name) is None:
        pytest.skip(reason, allow_module_level=True)
    return _Later(name)
