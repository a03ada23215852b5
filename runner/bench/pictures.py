"""A picture model's parts, in process: every engine builds it at the same dimensions, and they take turns."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.bench.interleave import Engine, EngineFailed, Log, in_turn, why_missing
from runner.bench.options import PICTURE_ENGINES, PROMPT, Options
from runner.bench.records import Record, Report
from runner.bench.specs import Spec

OURS = "mlx"
Size = tuple[int, int]
Engines = dict[str, tuple[Engine, dict[str, Any]]]  # and what it reported when it was built
Key = tuple[str, str, Size, int]  # engine, part, size, pictures


@dataclass
class Samples:
    """Seconds and peaks of memory, collected round by round."""

    seconds: dict[Key, list[float]] = field(default_factory=dict)
    peaks: dict[Key, int] = field(default_factory=dict)
    steps: int = 0  # of a whole picture

    def add(self, key: Key, seconds: list[float], peak: int = 0) -> None:
        self.seconds.setdefault(key, []).extend(seconds)
        self.peaks[key] = max(self.peaks.get(key, 0), peak)


def measure(spec: Spec, folder: str, size: Size, options: Options, report: Report, log: Log) -> None:
    """Adds all chosen parts to `report`. `size` is the model's own, for when none was chosen."""
    sizes = options.sizes or (size,)
    with _engines(spec, folder, options, report, log) as engines:
        samples = Samples()
        for _, built in engines.values():
            report.versions |= built.get("versions", {})
        dtype = next((str(built["dtype"]) for _, built in engines.values()), "")
        for size in sizes:
            if options.wants("encode", "step", "picture"):
                for n in options.counts:
                    _draw(engines, size, n, options, samples, report)
                    log(f"{spec.name}: {size[0]}x{size[1]}, n={n}")
            for strips in (False, True):
                if options.wants("strips" if strips else "decode"):
                    _decode(engines, size, strips, options, samples, report)
        # Last, because counting runs the parts, whose first run would then not be measured.
        floors = _floors(engines, sizes, dtype, report) if OURS in engines else {}
        report.records += _records(spec, options, dtype, samples, floors)


@contextlib.contextmanager
def _engines(spec: Spec, folder: str, options: Options, report: Report, log: Log) -> Iterator[Engines]:
    """Those that can take part, built. One that was chosen by name and cannot is an error."""
    engines: Engines = {}
    with contextlib.ExitStack() as stack:
        for name in options.engines or PICTURE_ENGINES:
            if name not in PICTURE_ENGINES:
                continue
            missing = why_missing(name, options.mflux)
            if missing is None:
                engine = Engine(name, options.mflux if name == "mflux" else None)
                stack.callback(engine.stop)
                log(f"{spec.name}: building {name}")
                try:
                    engines[name] = engine, engine.ask("build", **_job(spec, folder, options))
                except EngineFailed as error:
                    missing = error.message
            if missing is not None:
                if name == OURS or (options.engines and name in options.engines):
                    raise EngineFailed(f"{name} cannot take part: {missing}")
                report.missing[name] = missing
        yield engines


def _job(spec: Spec, folder: str, options: Options) -> dict[str, Any]:
    return {
        "folder": folder,
        "pipeline": spec.pipeline,
        "parts": dict(spec.parts),
        "text_tokens": spec.text_tokens,
        "random": spec.checkpoint is None,
        "dtype": options.dtype,
        "quantize": options.quantize,
        "prompt": PROMPT,
    }


def _floors(
    engines: Engines, sizes: tuple[Size, ...], dtype: str, report: Report
) -> dict[tuple[str, Size], float]:
    """Seconds that each part's arithmetic takes at the device's measured rate."""
    ours: Engine = engines[OURS][0]
    if dtype not in report.rates:
        report.rates[dtype] = ours.ask("rate")["rate"]
    floors: dict[tuple[str, Size], float] = {}
    for width, height in sizes:
        counted = ours.ask("count", width=width, height=height)
        for part, operations in counted.items():
            floors[part, (width, height)] = operations / report.rates[dtype]
        floors["strips", (width, height)] = floors["decode", (width, height)]
    return floors


def _draw(engines: Engines, size: Size, n: int, options: Options, samples: Samples, report: Report) -> None:
    """Round 0 is the first at this size, and includes compiling: it counts as `first` only."""
    job: dict[str, Any] = {"width": size[0], "height": size[1], "steps": options.steps, "n": n}
    for number in range(options.rounds + 1):
        for name in in_turn([name for name in engines if n == 1 or name == OURS], number):
            answer = _ask(engines, name, report, "run", job)
            samples.steps = answer.get("steps", samples.steps)
            if number == 0 and answer:
                samples.add((name, "first", size, n), answer["picture"] or [answer["first"]])
            for part in ("encode", "step", "picture") if number else ():
                samples.add((name, part, size, n), answer.get(part, []), answer.get("peak", 0))


def _decode(
    engines: Engines, size: Size, strips: bool, options: Options, samples: Samples, report: Report
) -> None:
    job: dict[str, Any] = {"width": size[0], "height": size[1], "strips": strips}
    for number in range(options.rounds + 1):  # the first is a warm-up
        for name in in_turn([name for name in engines if not strips or name == OURS], number):
            answer = _ask(engines, name, report, "decode", job)
            if number:
                part = "strips" if strips else "decode"
                samples.add((name, part, size, 1), answer.get("seconds", []), answer.get("peak", 0))


def _ask(engines: Engines, name: str, report: Report, do: str, job: dict[str, Any]) -> dict[str, Any]:
    """A peer that fails takes no further part, and the others go on."""
    try:
        return engines[name][0].ask(do, **job)
    except EngineFailed as error:
        if name == OURS:
            raise
        report.missing[name] = f"{error.message} ({job['width']}x{job['height']})"
        engines.pop(name)[0].stop()
        return {}


def _records(
    spec: Spec, options: Options, dtype: str, samples: Samples, floors: dict[tuple[str, Size], float]
) -> Iterator[Record]:
    for (engine, part, size, n), seconds in samples.seconds.items():
        if part not in options.parts or not seconds:
            continue
        whole = part in ("first", "picture")
        yield Record(
            model=spec.name,
            engine=engine,
            part=part,
            unit="s",
            values=tuple(seconds),
            width=size[0],
            height=size[1],
            n=n,
            steps=samples.steps if whole else 0,
            dtype=dtype,
            quantize=(options.quantize or "") if engine == OURS else "",
            layers=spec.layers or 0,
            floor=0.0 if whole else floors.get((part, size), 0.0),
            peak=samples.peaks.get((engine, part, size, n), 0),
            peak_of="above the weights" if part in ("decode", "strips") else "all",
        )
