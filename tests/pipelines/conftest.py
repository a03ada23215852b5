from collections.abc import Callable
from typing import Any

import pytest

from models.files import LocalModel
from tests.pipelines import toys


@pytest.fixture(scope="session")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Any, LocalModel]]:
    """The reference's pipeline of a toy, and the model that it saved."""
    made: dict[str, tuple[Any, LocalModel]] = {}

    def save(name: str, variant: str = "", **how: Any) -> tuple[Any, LocalModel]:
        from tests.pipelines import reference

        key = name + variant
        if key not in made:
            made[key] = reference.save(name, tmp_path_factory.mktemp("saved"), **how)
        return made[key]

    return save


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], LocalModel]:
    """A toy's folder, written without the reference."""
    made: dict[str, LocalModel] = {}

    def write(name: str) -> LocalModel:
        if name not in made:
            made[name] = toys.write(name, tmp_path_factory.mktemp("toy"))
        return made[name]

    return write
