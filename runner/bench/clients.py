"""Clients of a server that runs a language model: what they see, and what the runner says of its memory meanwhile."""

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.bench.cases import Case
from runner.bench.prompts import Prompts
from runner.bench.servers import Process
from runner.errors import RunnerFailed

LOAD = Path(__file__).with_name("load_generator.py")
LATE_TOKENS = 16  # that the answer to a long prompt which comes late has
TIMEOUT_S = 600.0
SAMPLE_S = 0.2  # between two looks at a runner's memory


@dataclass
class Figures:
    """Of one round. `growth`: bytes by which the runner's memory grew, at most. `preemptions`: texts that it computed again
    for lack of it. `note`: a remark on these values."""

    values: dict[str, float] = field(default_factory=dict)
    growth: int = 0
    preemptions: int | None = None
    note: str = ""


def ask_together(
    process: Process,
    bodies: Sequence[dict[str, Any]],
    clients: int,
    stagger: float = 0.005,
    timeout: float = 120,
    late: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """What this many clients at once saw, measured by the load generator's process."""
    load = {"port": process.port, "path": process.kind.path, "bodies": list(bodies), "clients": clients}
    load |= {"stagger": stagger, "timeout": timeout, "late": late}
    command = [sys.executable, str(LOAD)]
    done = subprocess.run(command, input=json.dumps(load), capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def one_round(
    process: Process,
    case: Case,
    prompts: Prompts,
    number: int,
    tokens: int,
    watch: bool = False,
    lookup: bool = False,
) -> Figures:
    """`watch`: look at the runner's memory, too. `lookup`: with prompt lookup, where other requests to edit have none."""
    # A temperature keeps random weights from ending early or repeating themselves while the long prompt comes.
    chosen = (1.0, number) if case.comes_late else (0.0, None)
    bodies = [
        process.kind.body(prompt, tokens, *chosen) for prompt in prompts.of(case, number, series=int(lookup))
    ]
    if case.edit and process.kind.speculates:
        speculate = {"speculate": "lookup" if lookup else "off"}
        bodies = [body | {"options": body["options"] | speculate} for body in bodies]
    late = None
    if case.comes_late:
        late = process.kind.body(prompts.late(case, number), LATE_TOKENS, *chosen)
    with _watched(process) if watch else contextlib.nullcontext(Figures()) as figures:
        seen = ask_together(process, bodies, len(bodies), timeout=TIMEOUT_S, late=late)
    _check(seen, process, len(bodies), lookup)
    figures.values = _late_values(seen) if late is not None else _values(seen)
    if lookup:
        figures.note = f"with lookup, {seen['accepted']} of {seen['drafted']} drafted tokens accepted"
    return figures


def _values(seen: dict[str, Any]) -> dict[str, float]:
    return {"http": seen["tokens_per_second"], "first token": seen["first_token"], "gap": seen["gap_median"]}


def _late_values(seen: dict[str, Any]) -> dict[str, float]:
    return {
        "long prompt, first token": seen["late_first_token"],
        "gap": seen["gap_median"],
        "gap, p99": seen["gap_p99"],
        "gap, longest": seen["gap_longest"],
    }


def _check(seen: dict[str, Any], process: Process, clients: int, lookup: bool) -> None:
    """No request may be lost: the figures of the others would be those of a smaller load."""
    name = process.kind.name
    if seen["lost"]:
        last = (process.tail(400).strip().splitlines() or ["it printed nothing"])[-1]
        raise RunnerFailed(f"{name} lost {seen['lost']} of {clients} requests: {seen['failures']}; {last}")
    if seen.get("late_failure"):
        raise RunnerFailed(f"{name}, the long prompt: {seen['late_failure']}; other --tokens may help")
    if lookup and not seen["drafted"]:
        raise RunnerFailed(f"{name} drafted no tokens, although it was asked to")


@contextlib.contextmanager
def _watched(process: Process) -> Iterator[Figures]:
    """Looks at the runner's status until the block ends."""
    figures, ended = Figures(), threading.Event()
    before = process.status()
    most = [int(before["Memory"])]

    def look() -> None:
        while not ended.wait(SAMPLE_S):
            most.append(int(process.status()["Memory"]))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield figures
    finally:
        ended.set()
        thread.join()
    after = process.status()
    figures.growth = max(*most, int(after["Memory"])) - int(before["Memory"])
    figures.preemptions = int(after["preemptions"]) - int(before["preemptions"])
