"""What the doctor says of versions, folders, ports, models and the sample, well and broken."""

import json
import socket
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runner.config import load
from runner.doctor import folders, machine, samples, versions
from runner.doctor.findings import Finding, Status
from runner.doctor.models import models
from runner.doctor.network import network
from runner.doctor.samples import Written
from runner.errors import RunnerFailed
from tests.runner.checkpoints import text_files, write
from tests.runner.conftest import unused_port


def named(findings: Iterable[Finding], name: str) -> Finding:
    return next(one for one in findings if one.name == name)


# -- versions


def test_the_versions_that_are_installed_fit() -> None:
    actual = list(versions.versions())
    assert {one.status for one in actual} == {Status.OK}
    assert {"diptych", "python", "mlx", "mlx-lm", "huggingface-hub", "tokenizers"} <= {
        one.name for one in actual
    }


@pytest.mark.parametrize(
    ("package", "version", "status", "words"),
    [
        ("mlx", "0.1.0", Status.FAIL, "0.1.0; >=0.32.4,<0.33 is needed"),
        ("mlx-lm", None, Status.FAIL, "not installed; "),
        ("msgspec", "9.0", Status.FAIL, "9.0; "),
    ],
)
def test_a_version_that_does_not_fit_is_a_failure(
    package: str, version: str | None, status: Status, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = versions._installed
    monkeypatch.setattr(versions, "_installed", lambda name: version if name == package else real(name))
    parts = [part.strip() for part in words.split(";")]
    finding = named(versions.versions(), package)
    assert finding.status is status
    assert parts[0] in finding.detail
    assert "pip install --upgrade diptych" in finding.advice


def test_packages_that_do_not_fit_each_other_are_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    demands = {"transformers": ["huggingface-hub<2,>=1.3", "torch>=2; extra == 'torch'"]}
    installed = {"transformers": "5.17.0", "huggingface-hub": "2.4.0"}
    monkeypatch.setattr(versions.metadata, "requires", lambda name: demands.get(name))
    monkeypatch.setattr(versions, "_installed", installed.get)
    finding = named(versions.versions(), "transformers")
    assert finding.status is Status.WARN
    assert "it needs huggingface-hub" in finding.detail
    assert "2.4.0 is installed" in finding.detail


def test_two_backends_are_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    real = versions._installed
    both = {"mlx-cpu": "0.32.4", "mlx-cuda-13": "0.32.4"}
    monkeypatch.setattr(versions, "_installed", lambda name: both.get(name) or real(name))
    monkeypatch.setattr(versions.metadata, "requires", lambda name: [])
    assert named(versions.versions(), "MLX's backends").status is Status.FAIL


# -- machine


def test_a_machine_without_a_compiler_lacks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_gpu_backend", lambda: False)
    monkeypatch.setattr(machine.shutil, "which", lambda name: None)
    finding = named(machine.machine(), "C++ compiler")
    assert (finding.status, finding.detail) == (Status.OK, "none; nothing here needs one")


def test_a_card_that_is_not_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "has_gpu_backend", lambda: False)
    monkeypatch.setattr(machine, "card_architecture", lambda: "sm_90")
    monkeypatch.setattr(machine, "card_memory", lambda: 80 * 1024**3)
    finding = named(machine.machine(), "NVIDIA card")
    assert finding.status is Status.WARN
    assert "diptych[cuda13]" in finding.advice


# -- folders


@pytest.mark.usefixtures("machine")
def test_folders_that_are_not_there_yet_are_fine() -> None:
    actual = list(folders.folders())
    assert Status.FAIL not in {one.status for one in actual}
    assert "(will be created)" in named(actual, "Diptych's cache").detail


def test_a_cache_that_cannot_be_made_is_a_failure(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (machine / "file").touch()
    monkeypatch.setenv("DIPTYCH_CACHE", str(machine / "file" / "cache"))
    finding = named(folders.folders(), "Diptych's cache")
    assert finding.status is Status.FAIL
    assert "cannot be written to" in finding.detail


@pytest.mark.parametrize(("mode", "status"), [(0o700, Status.OK), (0o755, Status.OK), (0o777, Status.FAIL)])
def test_kernels_that_others_may_write_are_a_failure(
    machine: Path, mode: int, status: Status, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernels = machine / "kernels"
    kernels.mkdir()
    kernels.chmod(mode)
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(kernels))
    finding = named(folders.folders(), "compiled kernels")
    assert finding.status is status
    assert ("chmod 700" in finding.advice) is (status is Status.FAIL)


def test_kernels_of_another_user_are_a_failure(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLX_PTX_CACHE_DIR", str(machine))
    monkeypatch.setattr(folders.os, "getuid", lambda: machine.stat().st_uid + 1)
    assert "it belongs to user" in named(folders.folders(), "compiled kernels").detail


# -- network


@pytest.mark.usefixtures("machine")
def test_a_free_port_and_no_gateway_are_fine() -> None:
    findings = list(network(load()))
    assert [one.status for one in findings] == [Status.OK, Status.OK]
    assert "none is running" in findings[0].detail


@pytest.mark.usefixtures("machine")
def test_a_port_that_another_program_has_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", unused_port())) as taken:
        monkeypatch.setenv("DIPTYCH_PORT", str(taken.getsockname()[1]))
        taken.settimeout(30)
        finding = list(network(load()))[-1]
    assert finding.status is Status.WARN
    assert "taken by another program" in finding.detail


# -- models


def test_models_that_cannot_be_run_are_listed_with_their_reason(machine: Path) -> None:
    write(machine / "deberta", text_files() | {"config.json": {"model_type": "deberta"}})
    (machine / "c.toml").write_text(f'[aliases]\nbert = "{machine / "deberta"}"\n')
    findings = list(models(load(str(machine / "c.toml"))))
    assert named(findings, "can be run").detail.startswith("0 of 1")
    finding = named(findings, str(machine / "deberta"))
    assert finding.status is Status.WARN
    assert "no architecture 'deberta'" in finding.detail


# -- the sample


def stored() -> Written:
    return msgspec.json.decode(samples.TEXT.read_bytes(), type=Written)


def gave(monkeypatch: pytest.MonkeyPatch, written: Any = None, drawn: Any = None) -> list[Finding]:
    async def write(options: object) -> Written:
        if isinstance(written, Exception):
            raise written
        return written or stored()

    async def draw(options: object) -> bytes:
        return drawn or samples.PICTURE.read_bytes()

    monkeypatch.setattr(samples, "write", write)
    monkeypatch.setattr(samples, "draw", draw)
    monkeypatch.setattr(samples, "has_gpu_backend", lambda: False)
    return list(samples.samples())


def test_what_was_stored_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    assert [one.status for one in gave(monkeypatch)] == [Status.OK, Status.OK]


def test_another_text_or_other_probabilities_are_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    other = msgspec.structs.replace(stored(), text="A blue ring.")
    assert "'A blue ring.'" in gave(monkeypatch, other)[0].detail
    shifted = msgspec.structs.replace(stored(), logprobs=[value - 0.01 for value in stored().logprobs])
    finding = gave(monkeypatch, shifted)[0]
    assert finding.status is Status.FAIL
    assert "1e-03 is allowed" in finding.detail


def test_another_picture_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (128, 128), "red").save(out, "png")
    finding = gave(monkeypatch, drawn=out.getvalue())[1]
    assert finding.status is Status.FAIL
    assert "of 255 levels on average" in finding.detail


def test_a_runner_that_fails_is_a_failure_with_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = gave(monkeypatch, RunnerFailed("no kernel image (exit 1)"))[0]
    assert (finding.status, finding.detail) == (Status.FAIL, "no kernel image (exit 1)")


def test_the_stored_picture_names_no_folder_of_the_machine_it_was_made_on() -> None:
    from PIL import Image

    assert Image.open(samples.PICTURE).info == {}
    assert json.loads(samples.TEXT.read_bytes()).keys() == {"text", "logprobs"}
