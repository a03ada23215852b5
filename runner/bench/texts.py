"""A language model over HTTP: ours, mlx_lm.server and mlx-lm called directly, in turns, for one client and for many."""

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from runner.bench.interleave import Engine, Tell, in_turn, installed, running
from runner.bench.options import TEXT_ENGINES, Options
from runner.bench.records import Record, Report
from runner.bench.servers import DIPTYCH, MLX_LM, Process
from runner.bench.specs import Spec
from runner.errors import RunnerFailed

LOAD = Path(__file__).with_name("load_generator.py")
LIBRARY = "mlx-lm"
DIRECT = {"library": "write", "raw": "decode"}  # what it is asked for, without a server
SPREAD = "mlx-spread"  # our runner over several devices
OURS = ("mlx", SPREAD)
DIALECTS = {"mlx": DIPTYCH, SPREAD: DIPTYCH, "mlx_lm.server": MLX_LM}
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
    """New ones every time, so that no prompt cache answers for the model; the same for every engine."""
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
    patience: float = 120,
) -> dict[str, Any]:
    """What so many clients at once saw, as a process of its own counted it."""
    load = {"port": process.port, "path": process.dialect.path, "bodies": list(bodies), "clients": clients}
    given = json.dumps(load | {"stagger": stagger, "patience": patience})
    done = subprocess.run(
        [sys.executable, str(LOAD)], input=given, capture_output=True, text=True, check=True
    )
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def measure(spec: Spec, folder: str, options: Options, report: Report, tell: Tell) -> None:
    needed = {LIBRARY: DIRECT}
    names = [
        name
        for name in options.engines or TEXT_ENGINES
        if name in TEXT_ENGINES and options.wants(*needed.get(name, ("load", "first", "http")))
    ]
    for name in [name for name in names if (why := installed(name, None))]:
        report.missing[name] = why or ""
        names.remove(name)
    if options.tensor_parallel > 1:
        names.append(SPREAD)
    found: Values = {}
    with _running(names, folder, options, found, tell) as engines:
        try:
            for clients in options.clients:
                _in_rounds(engines, clients, options, found, report)
                tell(f"{spec.name}: {clients} clients")
        finally:  # what was measured counts, whatever came after it
            report.records += _records(spec, options, found)


def _in_rounds(
    engines: dict[str, Process | Engine], clients: int, options: Options, found: Values, report: Report
) -> None:
    """A peer that cannot serve so many is named, and the others go on."""
    able = list(engines)
    for number in range(options.rounds + 1):  # the first warms
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
                found.setdefault((name, part, clients), []).append(value)


@contextlib.contextmanager
def _running(
    names: Sequence[str], folder: str, options: Options, found: Values, tell: Tell
) -> Iterator[dict[str, Process | Engine]]:
    with contextlib.ExitStack() as stack:
        engines: dict[str, Process | Engine] = {}
        for name in names:
            tell(f"{name} is being started")
            if name == LIBRARY:
                engine = stack.enter_context(running(name))
                found[name, "load", 0] = engine.ask("build", folder=folder)["load"]
                engines[name] = engine
                continue
            process = engines[name] = _started(name, folder, options)
            stack.callback(process.stop)
            found[name, "load", 0] = [process.healthy_after]
            found[name, "first", 0] = [process.answers_after]
        yield engines


def _started(name: str, folder: str, options: Options) -> Process:
    dialect = DIALECTS[name]
    told: list[str] = []
    if dialect is DIPTYCH and options.dtype:
        told += ["--dtype", "float32" if options.dtype == "float32" else "checkpoint"]
    if name == SPREAD:
        told += ["--tensor-parallel", str(options.tensor_parallel)]
    return Process(dialect, Path(folder), told)


def _once(engine: Process | Engine, clients: int, number: int, options: Options) -> dict[str, float]:
    asked, tokens = prompts(clients, number), options.tokens
    if isinstance(engine, Engine):
        parts = {part: do for part, do in DIRECT.items() if options.wants(part)}
        return {
            part: engine.ask(do, prompts=asked, tokens=tokens)["tokens_per_second"]
            for part, do in parts.items()
        }
    bodies = [engine.dialect.body(prompt, tokens, 0.0, None) for prompt in asked]
    figures = ask_together(engine, bodies, clients)
    if figures["lost"]:
        last = (engine.tail(400).strip().splitlines() or ["it said nothing"])[-1]
        raise RunnerFailed(
            f"{engine.dialect.name} lost {figures['lost']} of {clients} requests: {figures['failures']}; {last}"
        )
    return {"http": figures["tokens_per_second"], "first token": figures["first_token"]}


def _records(spec: Spec, options: Options, found: Values) -> Iterator[Record]:
    for (engine, part, clients), values in found.items():
        wanted = "http" if part == "first token" else part
        if wanted in options.parts:
            yield Record(
                model=spec.name,
                engine=engine,
                part=part,
                unit="tokens/s" if part in ("http", *DIRECT) else "s",
                values=tuple(values),
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
    "raw": "mlx-lm's network alone, prompts read before: cache, likeliest token, one step ahead",
}
