import pytest

from tests.runner.cli.commands.run import Diptych


@pytest.fixture
def diptych(machine: object, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Diptych:
    """The command line on a machine of its own, on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")
    return Diptych(capsys)
