"""The installed versions of packages, beside those that Diptych needs."""

import platform
import sys
from collections.abc import Iterator
from importlib import metadata

from runner.doctor.findings import Finding, Status
from runner.hardware import BACKENDS

SECTION = "versions"
# Packages that take part in computing, listed even if no requirement names them.
PACKAGES = (
    "mlx",
    *BACKENDS,
    "mlx-lm",
    "transformers",
    "huggingface-hub",
    "tokenizers",
    "numpy",
    "torch",
    "diffusers",
)
INSTALL = "`pip install --upgrade diptych`, or `uv sync` in a checkout, brings versions that fit"


def versions() -> Iterator[Finding]:
    yield Finding(SECTION, "diptych", Status.OK, _installed("diptych") or "not installed as a package")
    yield Finding(SECTION, "python", Status.OK, f"{platform.python_version()}, {sys.executable}")
    needed = _needed()
    for package in dict.fromkeys((*PACKAGES, *needed)):
        finding = _package(package, needed.get(package, ""))
        if finding is not None:
            yield finding
    backends = [name for name in BACKENDS if _installed(name)]
    if len(backends) > 1:
        yield Finding(
            SECTION, "MLX's backends", Status.FAIL, f"{' and '.join(backends)} overwrite each other's files",
            "make a fresh environment with one of Diptych's extras: cpu, cuda12 or cuda13",
        )  # fmt: skip


def _package(name: str, needed: str) -> Finding | None:
    """None for a package that is neither installed nor needed."""
    version = _installed(name)
    if version is None:
        return (
            Finding(SECTION, name, Status.FAIL, f"not installed; {needed} is needed", INSTALL)
            if needed
            else None
        )
    if needed and not _fits(version, needed):
        return Finding(SECTION, name, Status.FAIL, f"{version}; {needed} is needed", INSTALL)
    wrong = _contradiction(name)
    return Finding(
        SECTION, name, Status.WARN if wrong else Status.OK, f"{version}{wrong}", INSTALL if wrong else ""
    )


def _contradiction(name: str) -> str:
    """The requirement of an installed package that another one does not fit; "" if all fit."""
    for requirement in metadata.requires(name) or ():
        parsed = _parsed(requirement)
        if parsed is None or parsed[0] not in PACKAGES:
            continue
        package, specifier = parsed
        version = _installed(package)
        if version is not None and not _fits(version, specifier):
            return f"; it needs {package} {specifier}, and {version} is installed"
    return ""


def _needed() -> dict[str, str]:
    """The requirements of Diptych itself, without its extras."""
    try:
        parsed = map(_parsed, metadata.requires("diptych") or ())
    except metadata.PackageNotFoundError:
        return {}
    return dict(one for one in parsed if one is not None)


def _parsed(requirement: str) -> tuple[str, str] | None:
    """Name and versions of a requirement that applies here; None for those of extras or other systems."""
    from packaging.requirements import Requirement  # the hub's client brings it

    parsed = Requirement(requirement)
    if parsed.marker is not None and not parsed.marker.evaluate({"extra": ""}):
        return None
    return parsed.name, str(parsed.specifier)


def _fits(version: str, needed: str) -> bool:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet(needed).contains(version, prereleases=True)


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
