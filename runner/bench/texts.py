"""A language model for one client and for many: our runner and mlx_lm.server over HTTP, mlx-lm directly, in turns."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.bench.interleave import Engine, Log, in_turn, running, why_missing
from runner.bench.options import TEXT_ENGINES, Options
from runner.bench.records import Record, Report
from runner.bench.servers import DIPTYCH, MLX_LM, Process
from runner.bench.specs import Spec
from runner.errors import RunnerFailed

LOAD = Path(__file__).with_name("load_generator.py")
LIBRARY = "mlx-lm"
DIRECT = {"library": "write", "raw": "decode"}  # the job of the engine, for each part
SPREAD = "mlx-spread"  # our runner over several devices
OURS = ("mlx", SPREAD)
SERVER_KINDS = {"mlx": DIPTYCH, SPREAD: DIPTYCH, "mlx_lm.server": MLX_LM}
WORDS = [
    "harbour",
    "gull",
    "boat",
    "net",
    "dog",
    "rope",
    "door",
    "sea",
    "blue",
    "town",
    "morning",
    "bread",
    "rain",
    "roof",
    "book",
    "tea",
    "light",
    "north",
]
Values = dict[tuple[str, str, int], list[float]]  # engine, part, clients


def prompts(count: int, round_number: int, words: int = 40) -> list[str]:
    """New ones in each round, so that no prompt cache helps; the same for every engine."""
    return [
        f"Round {round_number}, {number}: "
        + " ".join(WORDS[(round_number * 7 + number * 5 + i * (i + 3)) % len(WORDS)] for i in range(words))
        for number in range(count)
    ]


def ask_together(
    process: Process,
    bodies: Sequence[dict[str, Any]],
    clients: int,
    stagger: float = 0.005,
    timeout: float = 120,
) -> dict[str, Any]:
    """What this many clients at once saw, measured by the load generator's process."""
    load = {"port": process.port, "path": process.kind.path, "bodies": list(bodies), "clients": clients}
    load |= {"stagger": stagger, "timeout": timeout}
    command = [sys.executable, str(LOAD)]
    done = subprocess.run(command, input=json.dumps(load), capture_output=True, text=True, check=True)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measure(spec: Spec, folder: str, options: Options, report: Report, log: Log) -> None:
    needed = {LIBRARY: DIRECT}
    names = [
        name
        for name in options.engines or TEXT_ENGINES
        if name in TEXT_ENGINES and options.wants(*needed.get(name, ("load", "first", "http")))
    ]
    for name in [name for name in names if (why := why_missing(name, None))]:
        report.missing[name] = why or ""
        names.remove(name)
    if options.tensor_parallel > 1:
        names.append(SPREAD)
    values: Values = {}
    with _running(names, folder, options, values, log) as engines:
        try:
            for clients in options.clients:
                _in_rounds(engines, clients, options, values, report)
                log(f"{spec.name}: {clients} clients")
        finally:  # keeps what was measured, whatever comes after it
            report.records += _records(spec, options, values)


def _in_rounds(
    engines: dict[str, Process | Engine], clients: int, options: Options, values: Values, report: Report
) -> None:
    """A peer that cannot serve this many clients is named, and the others go on."""
    able = list(engines)
    for number in range(options.rounds + 1):  # the first is a warm-up
        for name in in_turn(able, number):
            try:
                figures = _once(engines[name], clients, number, options)
            except RunnerFailed as error:
                if name in OURS:
                    raise
                report.missing[f"{name}, {clients} clients"] = error.message
                able = [other for other in able if other != name]
                continue
            for part, value in figures.items() if number else ():
                values.setdefault((name, part, clients), []).append(value)


@contextlib.contextmanager
def _running(
    names: Sequence[str], folder: str, options: Options, values: Values, log: Log
) -> Iterator[dict[str, Process | Engine]]:
    with contextlib.ExitStack() as stack:
        engines: dict[str, Process | Engine] = {}
        for name in names:
            log(f"starting {name}")
            if name == LIBRARY:
                engine = stack.enter_context(running(name))
                values[name, "load", 0] = engine.ask("build", folder=folder)["load"]
                engines[name] = engine
                continue
            process = engines[name] = _started(name, folder, options)
            stack.callback(process.stop)
            values[name, "load", 0] = [process.healthy_after]
            values[name, "first", 0] = [process.answers_after]
        yield engines


def _started(name: str, folder: str, options: Options) -> Process:
    kind = SERVER_KINDS[name]
    arguments: list[str] = []
    if kind is DIPTYCH and options.dtype:
        arguments += ["--dtype", "float32" if options.dtype == "float32" else "checkpoint"]
    if name == SPREAD:
        arguments += ["--tensor-parallel", str(options.tensor_parallel)]
    return Process(kind, Path(folder), arguments)


def _once(engine: Process | Engine, clients: int, number: int, options: Options) -> dict[str, float]:
    batch, tokens = prompts(clients, number), options.tokens
    if isinstance(engine, Engine):
        parts = {part: do for part, do in DIRECT.items() if options.wants(part)}
        return {
            part: engine.ask(do, prompts=batch, tokens=tokens)["tokens_per_second"]
            for part, do in parts.items()
        }
    bodies = [engine.kind.body(prompt, tokens, 0.0, None) for prompt in batch]
    figures = ask_together(engine, bodies, clients)
    if figures["lost"]:
        last = (engine.tail(400).strip().splitlines() or ["it printed nothing"])[-1]
        raise RunnerFailed(
            f"{engine.kind.name} lost {figures['lost']} of {clients} requests: {figures['failures']}; {last}"
        )
    return {"http": figures["tokens_per_second"], "first token": figures["first_token"]}


def _records(spec: Spec, options: Options, values: Values) -> Iterator[Record]:
    for (engine, part, clients), samples in values.items():
        if ("http" if part == "first token" else part) in options.parts:
            yield Record(
                model=spec.name,
                engine=engine,
                part=part,
                unit="tokens/s" if part in ("http", *DIRECT) else "s",
                values=tuple(samples),
                clients=clients,
                dtype=options.dtype or "",
                quantize=options.quantize or "",
                layers=spec.layers or 0,
                note=_NOTES.get(part, ""),
            )


_NOTES = {
    "load": "from start to healthy (mlx_lm.server says so before it has loaded)",
    "first": "from start to the first answer",
    "library": "mlx-lm called directly: stream_generate for one, BatchGenerator for several",
    "raw": "mlx-lm's network alone, after the prompts: its cache, the likeliest token, one step queued ahead",
}
