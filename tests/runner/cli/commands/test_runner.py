"""`diptych runner` with a configuration: aliases, and the settings of its model."""

from pathlib import Path

import pytest

from runner.cli.commands import serve
from runner.cli.commands.runner import settings
from runner.cli.main import _parser
from runner.config import load
from runner.server.main import RunnerSettings
from tests.runner.checkpoints import write
from tests.runner.live import Live
from tests.toys import toy_text


def configure(machine: Path) -> None:
    config = f"[aliases]\ntoy = '{toy_text()}'\n[models.toy]\ncontext = 100"
    write(machine / "config/diptych", {"config.toml": config.encode()})


def settings_of(*flags: str) -> RunnerSettings:
    return settings(_parser().parse_args(["runner", "--model", "toy", "--port", "0", *flags]))


def test_a_runner_takes_its_models_settings_unless_its_flags_say_otherwise(machine: Path) -> None:
    configure(machine)
    with Live(Path("toy")) as runner:
        assert runner.status()["ContextLength"] == 100
    with Live(Path("toy"), "--context", "200") as runner:
        assert runner.status()["ContextLength"] == 200


def test_a_supervised_runner_gets_all_its_settings_from_its_parent(machine: Path) -> None:
    configure(machine)
    assert (settings_of().context, settings_of().model) == (100, str(toy_text()))
    assert settings_of("--supervised").context is None
    write(machine / "config/diptych", {"config.toml": b"broken"})
    assert settings_of("--supervised").model == "toy"


def test_every_setting_of_a_model_is_one_of_its_runners_or_of_the_gateway(machine: Path) -> None:
    configured = "cache_bytes = '1GB'\nmemory = '8GB'\nengine = 'mlx'\nwarm_up = false\nkv_bits = 4\nbatch = 2\nkv_disk = '10GB'"
    write(
        machine / "config/diptych",
        {"config.toml": f"[models.toy]\n{configured}\nreplicas = 2\nkeep_alive = 5".encode()},
    )
    actual = settings_of("--memory", "auto", "--batch", "3")
    assert (actual.cache_bytes, actual.engine, actual.warm_up, actual.kv_bits) == (10**9, "mlx", False, 4)
    assert (actual.memory, actual.batch) == ("auto", 3), "flags win, also with the value of the default"
    assert (actual.kv_disk, actual.kv_disk_folder) == (10**10, None)


def test_without_flags_and_configuration_the_defaults_are_those_of_the_runner(machine: Path) -> None:
    assert settings_of() == RunnerSettings(model="toy", port=0)


def test_keys_and_values_on_disk_have_a_size_and_a_folder(machine: Path) -> None:
    write(
        machine / "config/diptych",
        {"config.toml": b"[models.'*']\nkv_disk = '10GB'\nkv_disk_folder = '/fast'"},
    )
    found = settings_of("--kv-disk", "512MiB")
    assert (found.kv_disk, found.kv_disk_folder) == (2**29, "/fast")
    assert settings_of("--kv-disk", "0", "--kv-disk-folder", "/other").kv_disk == 0


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("2GB", 2 * 10**9), ("12", 12)])
def test_the_prefix_cache_may_be_of_any_size(text: str, size: int) -> None:
    args = ["runner", "--model", "toy", "--port", "0", "--cache-bytes", text]
    assert _parser().parse_args(args).cache_bytes == size


def test_a_runner_may_draft_ahead_by_its_configuration(machine: Path) -> None:
    written = "[aliases]\nsmall = 'owner/small'\n"
    written += "[models.toy]\nspeculate = 'lookup'\nspeculate_tokens = 5\ndraft = 'small'"
    write(machine / "config/diptych", {"config.toml": written.encode()})
    settings = settings_of()
    assert (settings.speculate, settings.draft, settings.speculate_tokens) == ("lookup", "owner/small", 5)
    assert settings_of("--speculate", "off", "--draft", "small").draft == "owner/small"
    assert settings_of("--speculate", "off").speculate == "off"


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--speculate", "mtp"), "left out when mlx-lm loads a checkpoint"),
        (("--speculate", "always"), "it must be one of lookup, off"),
        (("--speculate-tokens", "33"), "not a whole number from 1 to 32"),
    ],
)
def test_what_cannot_be_drafted_with_is_refused(
    machine: Path, flags: tuple[str, str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        settings_of(*flags)
    assert words in capsys.readouterr().err


def test_a_gateway_tells_its_runners_how_to_draft_unless_their_models_say_otherwise(machine: Path) -> None:
    written = "[serve]\nspeculate = 'lookup'\n[models.other]\nspeculate = 'off'"
    write(machine / "config/diptych", {"config.toml": written.encode()})
    options = serve.settings(load()).options
    assert options("toy") == ["--speculate", "lookup"]
    assert options("other") == ["--speculate", "off"]
