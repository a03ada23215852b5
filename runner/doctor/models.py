"""The models on this machine that cannot be run, and why."""

from collections.abc import Iterator

from runner.config import Config
from runner.doctor.findings import Finding, Status
from runner.library import installed

SECTION = "models"


def models(config: Config) -> Iterator[Finding]:
    library = installed(config.aliases)
    broken = [model for model in library.models if model.fault is not None]
    usable = len(library.models) - len(broken)
    yield Finding(SECTION, "can be run", Status.OK, f"{usable} of {len(library.models)} on this machine")
    for model in broken:
        advice = f"`diptych detect {model.name}` says more"
        if model.source != "folder":
            advice += f"; `diptych rm {model.name}` removes it"
        yield Finding(SECTION, model.name, Status.WARN, str(model.fault), advice)
    for warning in library.warnings:
        yield Finding(SECTION, "stores", Status.WARN, warning, "`diptych list --all` lists what is there")
