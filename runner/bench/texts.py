"""A language model for one client and for many: our runner and mlx_lm.server over HTTP, others directly, in turns."""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from runner.bench.cases import SERVED, Case, cases
from runner.bench.clients import Figures, one_round
from runner.bench.interleave import Engine, Log, in_turn, running, why_missing
from runner.bench.options import TEXT_ENGINES, Options
from runner.bench.prompts import Prompts
from runner.bench.records import GROWTH, Record, Report
from runner.bench.servers import DIPTYCH, MLX_LM, Process
from runner.bench.specs import Spec
from runner.errors import RunnerFailed

# The parts that engines without a server run, and the job of each.
JOBS = {"library": "write", "raw": "decode"}
DIRECT = {"mlx-lm": ("library", "raw"), "torch-compile": ("raw",)}
SPREAD = "mlx-spread"  # our runner over several devices
LOOKUP = "mlx-lookup"  # our runner, asked for prompt lookup
OURS = ("mlx", SPREAD)  # whose failure ends the measurement
SERVER_KINDS = {"mlx": DIPTYCH, SPREAD: DIPTYCH, LOOKUP: DIPTYCH, "mlx_lm.server": MLX_LM}
TOLD_OF_MEMORY = ("http", "long prompt, first token")  # the parts whose records say what memory grew by
START = Case(0)  # of what is measured before any client comes


@dataclass
class Series:
    """The values of all rounds but the first, and the most that a round's memory grew and texts gave way for lack of it."""

    values: list[float] = field(default_factory=list)
    first_round: float = 0.0
    growth: int = 0
    preemptions: int | None = None
    note: str = ""

    def add(self, value: float, figures: Figures) -> None:
        self.values.append(value)
        self.growth = max(self.growth, figures.growth)
        if figures.preemptions is not None:
            self.preemptions = max(self.preemptions or 0, figures.preemptions)
        self.note = figures.note


Measured = dict[tuple[str, str, Case], Series]  # by engine and part


def measure(spec: Spec, folder: str, options: Options, report: Report, log: Log) -> None:
    names = [
        name
        for name in options.engines or TEXT_ENGINES
        if name in TEXT_ENGINES and options.wants(*DIRECT.get(name, SERVED))
    ]
    if options.long:
        names = [name for name in names if name not in DIRECT]
    for name in [name for name in names if (why := why_missing(name, None, draws=False))]:
        report.missing[name] = why or ""
        names.remove(name)
    if options.tensor_parallel > 1:
        names.append(SPREAD)
    if options.edit and "mlx" in names:
        names.append(LOOKUP)
    measured: Measured = {}
    prompts = Prompts(Path(folder), options.seed)
    with _running(names, folder, options, measured, report, log) as engines:
        try:
            for case in cases(options):
                _in_rounds(engines, case, prompts, options, measured, report)
                log(f"{spec.name}: {case}")
        finally:  # keeps what was measured, whatever comes after it
            report.records += _records(spec, options, measured)


def _in_rounds(
    engines: dict[str, Process | Engine],
    case: Case,
    prompts: Prompts,
    options: Options,
    measured: Measured,
    report: Report,
) -> None:
    """A peer that cannot serve this case is named, and the others go on."""
    able = list(engines)
    for number in range(options.rounds + 1):  # the first warms up
        for name in in_turn(able, number):
            try:
                figures = _once(name, engines[name], case, prompts, number, options)
            except RunnerFailed as error:
                if name in OURS:
                    raise
                report.missing[f"{name}, {case}"] = error.message
                able = [other for other in able if other != name]
                continue
            for part, value in figures.values.items():
                series = measured.setdefault((name, part, case), Series())
                if number:
                    series.add(value, figures)
                elif name not in DIRECT:
                    series.first_round = value


@contextlib.contextmanager
def _running(
    names: Sequence[str], folder: str, options: Options, measured: Measured, report: Report, log: Log
) -> Iterator[dict[str, Process | Engine]]:
    """A peer that does not start is named, and the others go on."""
    with contextlib.ExitStack() as stack:
        engines: dict[str, Process | Engine] = {}
        for name in names:
            if name == LOOKUP:
                engines[name] = engines["mlx"]
                continue
            log(f"starting {name}")
            try:
                engines[name] = _engine(name, folder, options, measured, stack)
            except RunnerFailed as error:
                if name in OURS:
                    raise
                report.missing[name] = error.message
        yield engines


def _engine(
    name: str, folder: str, options: Options, measured: Measured, stack: contextlib.ExitStack
) -> Process | Engine:
    """Start one, which ends with `stack`; how long it took is measured."""
    if name in DIRECT:
        engine = stack.enter_context(running(name if name == "mlx-lm" else f"{name}-text"))
        built = engine.ask("build", folder=folder, dtype=options.dtype)
        measured[name, "load", START] = Series(built["load"])
        return engine
    process = _started(name, folder, options)
    stack.callback(process.stop)
    measured[name, "load", START] = Series([process.healthy_after])
    if process.warm_after is not None:
        measured[name, "warm", START] = Series([process.warm_after])
    at_rest = int(process.status()["Memory"]) if process.kind is DIPTYCH else 0
    measured[name, "first", START] = Series([process.answers_after], growth=at_rest)
    return process


def _started(name: str, folder: str, options: Options) -> Process:
    kind = SERVER_KINDS[name]
    arguments: list[str] = []
    if kind is DIPTYCH and options.dtype:
        arguments += ["--dtype", "float32" if options.dtype == "float32" else "checkpoint"]
    if kind is DIPTYCH and options.kv_memory:
        arguments += ["--kv-memory", options.kv_memory]
    if name == SPREAD:
        arguments += ["--tensor-parallel", str(options.tensor_parallel)]
    return Process(kind, Path(folder), arguments)


def _once(
    name: str, engine: Process | Engine, case: Case, prompts: Prompts, number: int, options: Options
) -> Figures:
    if isinstance(engine, Engine):
        batch = prompts.of(case, number)
        parts = [part for part in DIRECT[name] if options.wants(part)]
        speeds = {part: engine.ask(JOBS[part], prompts=batch, tokens=options.tokens) for part in parts}
        return Figures({part: speed["tokens_per_second"] for part, speed in speeds.items()})
    watch = engine.kind is DIPTYCH and bool(options.long or options.kv_memory)
    return one_round(engine, case, prompts, number, options.tokens, watch, lookup=name == LOOKUP)


def _records(spec: Spec, options: Options, measured: Measured) -> Iterator[Record]:
    for (engine, part, case), series in measured.items():
        over_http = case is not START and part not in JOBS
        wanted_as = "http" if over_http else "load" if part == "warm" else part
        if not series.values or wanted_as not in options.parts:
            continue
        watched = series.preemptions is not None and part in TOLD_OF_MEMORY
        yield Record(
            model=spec.name,
            engine=engine,
            part=part,
            unit="tokens/s" if part in ("http", *JOBS) else "s",
            values=tuple(series.values),
            clients=case.clients,
            prompt_tokens=case.lengths or (0, 0),
            long=case.long,
            long_share=case.long_share,
            first_round=series.first_round,
            preemptions=series.preemptions if watched else None,
            peak=series.growth if watched or part == "first" else 0,
            peak_of=GROWTH if watched else "at rest" if part == "first" else "",
            dtype=options.dtype or "",
            quantize=options.quantize or "",
            layers=spec.layers or 0,
            note=series.note if series.note and part == "http" else _NOTES.get(part, ""),
        )


_NOTES = {
    "load": "from start to healthy (mlx_lm.server says so before it has loaded)",
    "first": "from start to the first answer",
    "warm": "from start until all kernels are compiled",
    "gap": "the median time between two pieces of an answer",
    "gap, p99": "since a long prompt was sent, of all other clients' answers",
    "gap, longest": "likewise",
    "library": "mlx-lm called directly: stream_generate for one, BatchGenerator for several",
    "raw": "the network alone, after the prompts: a cache, the likeliest token; mlx-lm's with one step queued ahead, "
    "torch's compiled, with a static cache",
}
