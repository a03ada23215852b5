"""`diptych runner` with a configuration: aliases, and the settings of its model."""

from pathlib import Path

import pytest

from runner.cli.main import _configured, _parser
from tests.runner.checkpoints import write
from tests.runner.live import Live
from tests.toys import toy_text


def configure(machine: Path) -> None:
    config = f"[aliases]\ntoy = '{toy_text()}'\n[models.toy]\ncontext = 100"
    write(machine / "config/diptych", {"config.toml": config.encode()})


def test_a_runner_takes_its_models_settings_unless_its_flags_say_otherwise(machine: Path) -> None:
    configure(machine)
    with Live(Path("toy")) as runner:
        assert runner.status()["ContextLength"] == 100
    with Live(Path("toy"), "--context", "200") as runner:
        assert runner.status()["ContextLength"] == 200


def test_a_runner_that_is_supervised_is_told_everything_by_its_supervisor(machine: Path) -> None:
    configure(machine)
    given = ["runner", "--model", "toy", "--port", "0"]
    assert _configured(_parser(), given).context == 100
    assert _configured(_parser(), [*given, "--supervised"]).context is None
    write(machine / "config/diptych", {"config.toml": b"broken"})
    assert _configured(_parser(), [*given, "--supervised"]).model == "toy"


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("2GB", 2 * 10**9), ("12", 12)])
def test_the_prefix_cache_may_be_of_any_size(text: str, size: int) -> None:
    given = ["runner", "--model", "toy", "--port", "0", "--cache-bytes", text]
    assert _parser().parse_args(given).cache_bytes == size
