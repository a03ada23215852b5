"""Reports as text: a table for a terminal, a section for docs/measurements.md."""

from collections.abc import Iterable, Sequence

from runner.bench.records import GROWTH, Record, Report
from runner.terminal import table

HEAD = ("part", "engine", "size", "how", "median", "spread", "floor", "peak")
GIGA = 1e9


def show(report: Report) -> str:
    lines = [title(report), ""]
    for model in dict.fromkeys(record.model for record in report.records):
        rows = [row(record) for record in report.records if record.model == model]
        lines += [model, table(HEAD, rows, width=200), ""]
    return "\n".join([*lines, *remarks(report)])


def markdown(report: Report) -> str:
    """One run's section."""
    heading = f"### {report.date[:10]}, {report.machine.get('device', 'unknown device')}"
    lines = [heading, "", f"`{report.command}`", "", title(report) + ".", ""]
    for model in dict.fromkeys(record.model for record in report.records):
        lines += [f"**{model}**", "", _line(HEAD), _line(["---"] * len(HEAD))]
        lines += [_line(row(record)) for record in report.records if record.model == model]
        lines.append("")
    return "\n".join([*lines, *(f"- {remark}" for remark in remarks(report)), ""])


def title(report: Report) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in report.versions.items())
    return f"{report.date}, {', '.join(report.machine.values())}; {versions}"


def remarks(report: Report) -> list[str]:
    lines = [f"{name} took no part: {why}" for name, why in report.missing.items()]
    lines += [f"not measured: {what}" for what in report.failed]
    lines += [
        f"measured rate of {dtype} products: {rate / 1e12:.3g} TFLOP/s"
        for dtype, rate in report.rates.items()
    ]
    notes = dict.fromkeys(f"{record.part}: {record.note}" for record in report.records if record.note)
    cut = sorted({record.layers for record in report.records if record.layers})
    lines += [
        f"cut to {layers} block(s) of each kind at true width: not figures of the whole model"
        for layers in cut
    ]
    return [*lines, *notes]


def row(record: Record) -> tuple[str, ...]:
    floor = f"{amount(record.floor, record.unit)} (x{record.of_floor:.2f})" if record.of_floor else ""
    shown = record.peak or record.peak_of == GROWTH
    peak = f"{record.peak / GIGA:.2f} GB" if shown else ""
    peak += f" {record.peak_of}" if shown and record.peak_of != "all" else ""
    return (
        record.part,
        record.engine,
        record.size,
        record.how,
        amount(record.median, record.unit),
        spread(record),
        floor,
        peak,
    )


def amount(value: float, unit: str) -> str:
    """With three digits, such as 61.2 ms, 420 ms for 0.42 s, 252 tokens/s."""
    if unit != "s":
        return f"{value:.0f} {unit}" if value >= 100 else f"{value:.1f} {unit}"
    return f"{value * 1e3:.3g} ms" if value < 1 else f"{value:.2f} s"


def spread(record: Record) -> str:
    """The least, the most, and of how many values; beside them the first round, which is not one of them."""
    first = f"; first round {amount(record.first_round, record.unit)}" if record.first_round else ""
    if len(record.values) == 1:
        return f"once{first}"
    (least, unit), (most, unit_of_most) = (
        amount(value, record.unit).split(" ") for value in (min(record.values), max(record.values))
    )
    return f"{least} to {most}{' (s)' if unit != unit_of_most else ''}, {len(record.values)}{first}"


def _line(cells: Sequence[str] | Iterable[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
