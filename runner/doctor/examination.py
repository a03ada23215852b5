"""All sections of the doctor's report. One that fails becomes a finding, and the rest follows."""

from collections.abc import Callable, Iterable, Iterator

from runner.config import Config
from runner.doctor.findings import Finding, Status
from runner.doctor.trials import REPORT
from runner.errors import DiptychError

Section = Callable[[], Iterable[Finding]]


def examine(config: Config) -> Iterator[Finding]:
    for name, section in _sections(config):
        try:
            yield from section()
        except DiptychError as error:
            yield Finding(name, "looking", Status.FAIL, error.message)
        except Exception as error:  # whatever is broken, the rest is still worth reporting
            message = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(name, "looking", Status.FAIL, f"ended with {message}", REPORT)


def _sections(config: Config) -> Iterator[tuple[str, Section]]:
    """Imported one by one, because any of them may fail to import."""
    yield "versions", _versions
    yield "machine", _machine
    yield "device", _trials
    yield "sample", _samples
    yield "folders", _folders
    yield "network", lambda: _network(config)
    yield "models", lambda: _models(config)


def _versions() -> Iterable[Finding]:
    from runner.doctor.versions import versions

    return versions()


def _machine() -> Iterable[Finding]:
    from runner.doctor.machine import machine

    return machine()


def _trials() -> Iterable[Finding]:
    from runner.doctor.trial_process import run_trials

    return run_trials()


def _samples() -> Iterable[Finding]:
    from runner.doctor.samples import samples

    return samples()


def _folders() -> Iterable[Finding]:
    from runner.doctor.folders import folders

    return folders()


def _network(config: Config) -> Iterable[Finding]:
    from runner.doctor.network import network

    return network(config)


def _models(config: Config) -> Iterable[Finding]:
    from runner.doctor.models import models

    return models(config)
