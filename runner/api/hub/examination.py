"""What a model of the hub would be on this machine: its size, and whether and how it fits. Reads its JSON and headers only."""

from dataclasses import dataclass
from typing import Any, Literal

from msgspec import Struct, field

from runner.errors import DiptychError, ModelNotSupported
from runner.gateway.admission import Admission
from runner.gateway.app import Gateway
from runner.gateway.resolver import ResolvedModel
from runner.library.download import Download, plan_download
from runner.sources import ModelMode
from runner.sources.gguf import quantizations
from runner.sources.name import ModelName
from runner.threads import run_in_daemon_thread
from runner.units import show_size

Fit = Literal["yes", "in turn", "quantized", "no"]


class Choice(Struct, frozen=True):
    """One of a repo's GGUF models, by its quantization."""

    name: str
    quantization: str
    bytes: int


class Examined(Struct, frozen=True):
    """`bytes` are downloaded; `memory` is what it takes as it `fits`: as it is, with its parts in turn, or only quantized
    to 4 bits as well; `why` says it in a sentence. `fault`: why it cannot be run at all."""

    name: str
    bytes: int
    mode: ModelMode | None
    fits: Fit
    why: str
    memory: int | None = None
    fault: str | None = None
    choices: list[Choice] = field(default_factory=list)


@dataclass(frozen=True)
class _Plan:
    download: Download
    choices: list[Choice]


async def examine(gateway: Gateway, name: str) -> Examined:
    plan = await run_in_daemon_thread(lambda: _plan(name))
    download = plan.download
    known: dict[str, Any] = {
        "name": download.name,
        "bytes": download.bytes,
        "mode": download.mode,
        "choices": plan.choices,
    }
    if download.fault:
        return Examined(**known, fits="no", why=f"It cannot be run: {download.fault}", fault=download.fault)
    try:
        model = await gateway.resolver.resolve(download.name)
    except ModelNotSupported as error:
        return Examined(**known, fits="no", why=error.message, fault=error.message)
    return Examined(**known, **_fit(gateway.pool.budget, model))


def _plan(name: str) -> _Plan:
    download = plan_download(name, folders=False)
    hub = ModelName.parse(name).hub
    remote = getattr(download.files, "remote", None)  # of a GGUF, which is one of several in its repo
    if hub is None or remote is None:
        return _Plan(download, [])
    words = quantizations(remote.listing())
    choices = [Choice(str(hub._replace(quantization=word)), word, size) for word, size in words.items()]
    return _Plan(download, sorted(choices, key=lambda choice: choice.bytes))


def _fit(budget: int, model: ResolvedModel) -> dict[str, Any]:
    admission = Admission(budget)
    need = admission.need(model)
    room = show_size(budget)
    if need.resident <= budget:
        return _said("yes", need.resident, f"It takes about {show_size(need.resident)} of {room}.")
    if need.staged <= budget:
        return _said("in turn", need.staged, f"Its parts are loaded in turn: {show_size(need.staged)} of {room}; "
            f"all at once it would take {show_size(need.resident)}.")  # fmt: skip
    if need.smallest <= budget:
        return _said("quantized", need.smallest, f"With quantize = 4 in the configuration it takes {show_size(need.smallest)} "
            f"of {room}; as it is {show_size(need.staged)}.")  # fmt: skip
    try:
        admission.check(model)
    except DiptychError as error:
        advice = " A quantization of it may fit." if model.mode is ModelMode.TEXT else ""
        return _said("no", need.smallest, f"{error.message[:1].upper()}{error.message[1:]}.{advice}")
    return _said(
        "yes", admission.needs(model), f"It takes about {show_size(admission.needs(model))} of {room}."
    )


def _said(fits: Fit, memory: int, why: str) -> dict[str, Any]:
    return {"fits": fits, "memory": memory, "why": why}
