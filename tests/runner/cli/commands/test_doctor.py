"""`diptych doctor` as it is called: what it prints, its JSON, its code; and that nothing broken ends it."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from runner.cli.commands import doctor
from runner.doctor import examination
from runner.doctor.findings import Finding, Status
from runner.errors import BadRequest
from tests.runner.cli.commands.run import Diptych
from tests.runner.live import ROOT

FINE = Finding("machine", "memory", Status.OK, "24 GB")
SLOW = Finding("machine", "products", Status.WARN, "slow", "install OpenBLAS")
WRONG = Finding("kernels", "heads", Status.FAIL, "differs", "report it")
SECTIONS = ["configuration", "versions", "machine", "device", "sample", "folders", "network", "models"]


def finds(monkeypatch: pytest.MonkeyPatch, *findings: Finding) -> None:
    monkeypatch.setattr(doctor, "examine", lambda config: iter(findings))


@pytest.mark.parametrize(
    ("findings", "code", "summary"),
    [
        ((FINE,), 0, "everything is fine"),
        ((FINE, SLOW), 0, "1 warning"),
        ((FINE, SLOW, WRONG, WRONG), 1, "2 failures and 1 warning"),
    ],
)
def test_it_ends_with_a_code_and_says_what_to_do(
    diptych: Diptych, monkeypatch: pytest.MonkeyPatch, findings: tuple[Finding, ...], code: int, summary: str
) -> None:
    finds(monkeypatch, *findings)
    done = diptych("doctor")
    assert done.code == code
    assert done.out.splitlines()[-1].startswith(summary)
    for finding in findings:
        assert finding.advice in done.out
    assert done.out.count("machine\n") == 1


def test_those_that_say_the_same_stand_in_one_line(diptych: Diptych, monkeypatch: pytest.MonkeyPatch) -> None:
    finds(monkeypatch, *(Finding("kernels", name, Status.OK, "not used on this device") for name in "abc"))
    assert "  ok    a, b, c: not used on this device" in diptych("doctor").out


def test_the_json_has_every_finding_with_all_its_fields(
    diptych: Diptych, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, FINE, WRONG)
    actual = diptych("doctor", "--json").json
    assert (actual["format"], actual["status"]) == (1, "fail")
    assert actual["findings"][1:] == [
        {"section": "machine", "name": "memory", "status": "ok", "detail": "24 GB", "advice": ""},
        {"section": "kernels", "name": "heads", "status": "fail", "detail": "differs", "advice": "report it"},
    ]


def test_a_broken_configuration_is_a_finding(
    diptych: Diptych, machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    finds(monkeypatch, FINE)
    (machine / "broken.toml").write_text("[serve]\nport = 'many'\n")
    for arguments in (
        ("--config", str(machine / "broken.toml"), "doctor"),
        ("doctor", "--config", "absent.toml"),
    ):
        done = diptych(*arguments)
        assert done.code == 1
        assert "fail  file:" in done.out
        assert "24 GB" in done.out


def test_a_section_that_breaks_is_a_finding_and_the_next_one_is_looked_at(
    diptych: Diptych, monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks() -> Iterator[Finding]:
        yield FINE
        raise PermissionError(13, "Permission denied", "/proc/cpuinfo")

    def refuses() -> Iterator[Finding]:
        raise BadRequest("DIPTYCH_LOAD_TIMEOUT: 'soon' is not a duration")

    sections = [("machine", breaks), ("sample", refuses), ("models", lambda: [WRONG])]
    monkeypatch.setattr(examination, "_sections", lambda config: iter(sections))
    actual = diptych("doctor", "--json").json["findings"][1:]
    assert [one["section"] for one in actual] == ["machine", "machine", "sample", "kernels"]
    assert "PermissionError" in actual[1]["detail"]
    assert "is not a duration" in actual[2]["detail"]


def examined(tmp_path: Path, **variables: str) -> tuple[int, Any]:
    """The whole of it, in a process."""
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "DIPTYCH_CACHE": str(tmp_path / "made"), **variables}
    done = subprocess.run(
        [sys.executable, "-m", "runner", "doctor", "--json"],
        cwd=ROOT, capture_output=True, text=True, env=environment, timeout=280,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.usefixtures("machine")
def test_this_machine_is_examined_whole(tmp_path: Path) -> None:
    code, actual = examined(tmp_path)
    sections = [one["section"] for one in actual["findings"]]
    assert list(dict.fromkeys(sections)) == [*SECTIONS[:4], "operations", "kernels", *SECTIONS[4:]]
    assert [one for one in actual["findings"] if one["status"] == "fail"] == []
    assert code == 0


@pytest.mark.slow
@pytest.mark.usefixtures("machine")
def test_a_machine_whose_mlx_has_no_backend_is_examined_all_the_same(tmp_path: Path) -> None:
    package = tmp_path / "broken" / "mlx"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (package / "core.py").write_text('raise ImportError("libmlx.so: cannot open", name="mlx.core")')
    code, actual = examined(tmp_path, PYTHONPATH=str(package.parent))
    assert code == 1
    assert list(dict.fromkeys(one["section"] for one in actual["findings"])) == SECTIONS
    failed = {one["name"] for one in actual["findings"] if one["status"] == "fail"}
    assert failed == {"MLX", "text, float32", "picture, float32"}
    text = next(one["detail"] for one in actual["findings"] if one["name"] == "text, float32")
    assert "libmlx.so: cannot open" in text
