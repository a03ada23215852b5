"""A picture model's parts, in process: every engine builds it at the same dimensions, and they draw in turn."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from runner.bench.options import PROMPT, Options
from runner.bench.records import Record, Report
from runner.bench.specs import Spec
from runner.bench.turns import Engine, EngineFailed, in_turn, installed

OURS = "mlx"
Size = tuple[int, int]
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


def measure(spec: Spec, folder: Path, size: Size, options: Options, report: Report, tell: Any) -> None:
    """All parts that are asked for, into `report`. `size` is the model's own, where none is given."""
    sizes = options.sizes or (size,)
    with _engines(spec, folder, options, report, tell) as engines:
        gathered = Gathered()
        dtype = next((str(told["dtype"]) for _, told in engines.values()), "")
        floors = _floors(engines, sizes, dtype, report) if OURS in engines else {}
        for size in sizes:
            if options.wants("encode", "step", "picture"):
                for n in options.counts:
                    _draw(engines, size, n, spec, options, gathered, tell)
            for strips in (False, True):
                if options.wants("strips" if strips else "decode"):
                    _decode(engines, size, strips, options, gathered, tell)
        report.records += _records(spec, options, dtype, gathered, floors)


@contextlib.contextmanager
def _engines(
    spec: Spec, folder: Path, options: Options, report: Report, tell: Any
) -> Iterator[dict[str, tuple[Engine, dict[str, Any]]]]:
    """Those that can take part, built; one that was asked for by name and cannot is an error."""
    from runner.bench.options import PICTURE_ENGINES

    engines: dict[str, tuple[Engine, dict[str, Any]]] = {}
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


def _job(spec: Spec, folder: Path, options: Options) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "pipeline": spec.pipeline,
        "parts": dict(spec.parts),
        "text_tokens": spec.text_tokens,
        "random": spec.folder is None,
        "dtype": options.dtype,
        "quantize": options.quantize,
        "prompt": PROMPT,
    }


def _floors(
    engines: Any, sizes: tuple[Size, ...], dtype: str, report: Report
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


def _draw(
    engines: Any, size: Size, n: int, spec: Spec, options: Options, gathered: Gathered, tell: Any
) -> None:
    """Round 0 is the first at this size: what it costs more is compiling, and is told apart."""
    width, height = size
    for number in range(options.rounds + 1):
        for name, (engine, _) in in_turn(list(engines.items()), number):
            if n > 1 and name != OURS:
                continue
            answer = engine.ask("run", width=width, height=height, steps=options.steps, n=n)
            gathered.steps = answer.get("steps", gathered.steps)
            if number == 0:
                gathered.add((name, "first", size, n), answer["picture"] or [answer["first"]])
                continue
            for part in ("encode", "step", "picture"):
                gathered.add((name, part, size, n), answer.get(part, []), answer.get("peak", 0))
        tell(f"{spec.name} {width}x{height} n={n}: round {number} of {options.rounds}")


def _decode(engines: Any, size: Size, strips: bool, options: Options, gathered: Gathered, tell: Any) -> None:
    width, height = size
    for number in range(options.rounds + 1):
        for name, (engine, _) in in_turn(list(engines.items()), number):
            if strips and name != OURS:
                continue
            answer = engine.ask("decode", width=width, height=height, strips=strips)
            if number:
                part = "strips" if strips else "decode"
                gathered.add((name, part, size, 1), answer["seconds"], answer.get("peak", 0))
    tell(f"decoded {width}x{height}{' in strips' if strips else ''}")


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
