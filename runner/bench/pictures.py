"""A picture model's parts, in process: every engine builds it at the same dimensions, and they draw in turn."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from runner.bench.interleave import Engine, EngineFailed, Tell, in_turn, installed
from runner.bench.options import PICTURE_ENGINES, PROMPT, Options
from runner.bench.records import Record, Report
from runner.bench.specs import Spec

OURS = "mlx"
Size = tuple[int, int]
Engines = dict[str, tuple[Engine, dict[str, Any]]]  # and what it told when it was built
Key = tuple[str, str, Size, int]  # engine, part, size, pictures


@dataclass
class Gathered:
    """Seconds and peaks as they come in."""

    seconds: dict[Key, list[float]] = field(default_factory=dict)
    peaks: dict[Key, int] = field(default_factory=dict)
    steps: int = 0  # of a whole picture

    def add(self, key: Key, seconds: list[float], peak: int = 0) -> None:
        self.seconds.setdefault(key, []).extend(seconds)
        self.peaks[key] = max(self.peaks.get(key, 0), peak)


def measure(spec: Spec, folder: str, size: Size, options: Options, report: Report, tell: Tell) -> None:
    """All parts that are asked for, into `report`. `size` is the model's own, where none is given."""
    sizes = options.sizes or (size,)
    with _engines(spec, folder, options, report, tell) as engines:
        gathered = Gathered()
        for _, told in engines.values():
            report.versions |= told.get("versions", {})
        dtype = next((str(told["dtype"]) for _, told in engines.values()), "")
        for size in sizes:
            if options.wants("encode", "step", "picture"):
                for n in options.counts:
                    _draw(engines, size, n, options, gathered, report)
                    tell(f"{spec.name}: {size[0]}x{size[1]}, n={n}")
            for strips in (False, True):
                if options.wants("strips" if strips else "decode"):
                    _decode(engines, size, strips, options, gathered, report)
        # At the end: counting runs parts, which would then not be the first time.
        floors = _floors(engines, sizes, dtype, report) if OURS in engines else {}
        report.records += _records(spec, options, dtype, gathered, floors)


@contextlib.contextmanager
def _engines(spec: Spec, folder: str, options: Options, report: Report, tell: Tell) -> Iterator[Engines]:
    """Those that can take part, built; one that was asked for by name and cannot is an error."""
    engines: Engines = {}
    with contextlib.ExitStack() as stack:
        for name in options.engines or PICTURE_ENGINES:
            if name not in PICTURE_ENGINES:
                continue
            missing = installed(name, options.mflux)
            if missing is None:
                engine = Engine(name, options.mflux if name == "mflux" else None)
                stack.callback(engine.stop)
                tell(f"{spec.name}: {name} is being built")
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
    """Seconds that the arithmetic of each part takes at the device's measured rate."""
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


def _draw(engines: Engines, size: Size, n: int, options: Options, gathered: Gathered, report: Report) -> None:
    """Round 0 is the first at this size: what it costs more is compiling, and is told apart."""
    asked: dict[str, Any] = {"width": size[0], "height": size[1], "steps": options.steps, "n": n}
    for number in range(options.rounds + 1):
        for name in in_turn([name for name in engines if n == 1 or name == OURS], number):
            answer = _ask(engines, name, report, "run", asked)
            gathered.steps = answer.get("steps", gathered.steps)
            if number == 0 and answer:
                gathered.add((name, "first", size, n), answer["picture"] or [answer["first"]])
            for part in ("encode", "step", "picture") if number else ():
                gathered.add((name, part, size, n), answer.get(part, []), answer.get("peak", 0))


def _decode(
    engines: Engines, size: Size, strips: bool, options: Options, gathered: Gathered, report: Report
) -> None:
    asked: dict[str, Any] = {"width": size[0], "height": size[1], "strips": strips}
    for number in range(options.rounds + 1):  # the first warms
        for name in in_turn([name for name in engines if not strips or name == OURS], number):
            answer = _ask(engines, name, report, "decode", asked)
            if number:
                part = "strips" if strips else "decode"
                gathered.add((name, part, size, 1), answer.get("seconds", []), answer.get("peak", 0))


def _ask(engines: Engines, name: str, report: Report, do: str, asked: dict[str, Any]) -> dict[str, Any]:
    """A peer that fails is out from then on, and the others go on."""
    try:
        return engines[name][0].ask(do, **asked)
    except EngineFailed as error:
        if name == OURS:
            raise
        report.missing[name] = f"{error.message} ({asked['width']}x{asked['height']})"
        engines.pop(name)[0].stop()
        return {}


def _records(
    spec: Spec, options: Options, dtype: str, gathered: Gathered, floors: dict[tuple[str, Size], float]
) -> Iterator[Record]:
    for (engine, part, size, n), seconds in gathered.seconds.items():
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
            steps=gathered.steps if whole else 0,
            dtype=dtype,
            quantize=(options.quantize or "") if engine == OURS else "",
            layers=spec.layers or 0,
            floor=0.0 if whole else floors.get((part, size), 0.0),
            peak=gathered.peaks.get((engine, part, size, n), 0),
            peak_of="above the weights" if part in ("decode", "strips") else "all",
        )
