"""For every test: nothing is left in the user's own folders, and products are as quick as the runner's own."""

import os
from collections.abc import Iterator

import pytest

from runner import device

# Before any test imports MLX, which would otherwise multiply many times slower in this process.
device.prepare()
# On an NVIDIA card float32 is float32, as the references that it is compared with are.
os.environ.setdefault("MLX_ENABLE_TF32", "0")


@pytest.fixture(scope="session", autouse=True)
def state_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Gateways of tests say that they run where commands of the user do not look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield
