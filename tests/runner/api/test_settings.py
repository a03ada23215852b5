"""What the page's settings are made of: places, limits, and the doctor's report."""

import asyncio
from pathlib import Path

import pytest

from runner.api import settings
from runner.errors import RunnerFailed
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model


def test_places_and_limits_are_shown_to_those_with_a_key(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "a")
    with Gateway({"a": model}, keys=["sesame"], memory=2**30, keep_alive=60.0) as gateway:
        assert gateway.http.get("/settings").status_code == 401
        assert gateway.http.post("/settings/doctor").status_code == 401
        found = gateway.http.get("/settings", headers={"x-api-key": "sesame"}).json()
    assert (found["budget"], found["budget_source"], found["keep_alive"]) == (2**30, "--memory", 60.0)
    assert (found["gallery"], found["keys"]) == (True, True)
    assert {"Models from Hugging Face", "Gallery"} <= {place["name"] for place in found["places"]}


def run_doctor(monkeypatch: pytest.MonkeyPatch, script: str) -> settings.Report:
    monkeypatch.setattr(settings, "DOCTOR", ("/bin/sh", "-c", script))
    return settings._report(asyncio.run(settings._output()))


def test_the_doctors_report_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = '{"section": "a", "name": "b", "status": "fail", "detail": "c", "advice": "d"}'
    said = f'{{"format": 1, "status": "fail", "seconds": 1.5, "findings": [{finding}]}}'
    report = run_doctor(monkeypatch, f"echo '{said}'; exit 1")
    assert (report.status, report.findings[0].advice) == ("fail", "d")


@pytest.mark.parametrize(
    "script", ["echo nothing", "kill -9 $$", "echo '[]'", """echo '{"findings": [3]}'"""]
)
def test_a_doctor_that_dies_or_babbles_is_an_error(monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    with pytest.raises(RunnerFailed, match="cannot be read"):
        run_doctor(monkeypatch, script)


def test_a_doctor_that_takes_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "PATIENCE_S", 0.05)
    with pytest.raises(RunnerFailed, match="not done"):
        run_doctor(monkeypatch, "exec sleep 60")
