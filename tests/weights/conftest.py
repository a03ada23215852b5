"""SmolLM2, converted once a session, and transformers' own answers."""

from pathlib import Path

import pytest

from tests.weights.smollm2 import LAYOUTS, Reference, convert, laid_out


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As transformers 5 saves it."""
    return convert(tmp_path_factory.mktemp("smollm2") / "converted")


@pytest.fixture(scope="session")
def layouts(checkpoint: Path) -> dict[str, Path]:
    """The same weights under the config.json of either time."""
    return {layout: laid_out(checkpoint.parent / layout, checkpoint, layout) for layout in LAYOUTS}


@pytest.fixture(scope="session")
def reference(checkpoint: Path) -> Reference:
    return Reference.load(checkpoint)
