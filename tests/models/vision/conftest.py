import json
from typing import Any

import pytest

from tests import ROOT
from tests.models.vision.toy import Toy, write_checkpoint
from tests.models.vision.vision_cases import CASES

REFERENCES = ROOT / "tests" / "models" / "references"


@pytest.fixture(scope="session")
def described() -> dict[str, Any]:
    """Config, shapes and texts of the toys, as transformers has them."""
    return json.loads((REFERENCES / "vision.json").read_text())


@pytest.fixture(scope="session")
def toys(tmp_path_factory: pytest.TempPathFactory, described: dict[str, Any]) -> dict[str, Toy]:
    folder = tmp_path_factory.mktemp("vision")
    return {
        name: Toy.load(write_checkpoint(folder / name, case, described[name])) for name, case in CASES.items()
    }
