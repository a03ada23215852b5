"""Reports as a chart: a bar for each measurement, a tick for the floor, and how cost grows with size and number."""

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace
from PIL import Image, ImageDraw, ImageFont

from runner.bench.growth import GrowthPanel, draw_growth, growth_panels
from runner.bench.records import Record, Report, counted, show_prompts
from runner.bench.table import amount
from runner.errors import BadRequest

COLOURS = {
    "mlx": "#c2410c",
    "mlx-spread": "#f59e0b",
    "mlx-lookup": "#be123c",
    "torch": "#64748b",
    "torch-compile": "#334155",
    "mflux": "#2563eb",
    "mlx-lm": "#0d9488",
    "mlx_lm.server": "#0369a1",
}
OTHER, INK, PALE, PAPER = "#7c3aed", "#1c1917", "#d6d3d1", "#ffffff"
LINES = {**COLOURS, "other": OTHER, "ink": INK, "pale": PALE}
WIDTH, LEFT, RIGHT, MARGIN = 1200, 430, 130, 24
BAR, GAP, TITLE = 20, 8, 34
GROWING = 3  # sizes or numbers that it takes to show how cost grows
# Not loading and first calls, which take seconds beside milliseconds.
PARTS = ("encode", "step", "decode", "strips", "picture", "pack", "http", "library", "raw")


@dataclass(frozen=True)
class Panel:
    """Bars of one scale under a title."""

    title: str
    records: tuple[Record, ...]

    @property
    def height(self) -> int:
        return TITLE + len(self.records) * (BAR + GAP) + MARGIN

    @property
    def longest(self) -> float:
        return max(max(record.values) for record in self.records)


def plot(reports: Iterable[Report], path: Path) -> None:
    reports = list(reports)
    panels = _by_device(reports)
    if not panels:
        raise BadRequest(f"nothing to draw: the reports have none of {', '.join(PARTS)}")
    titles = dict.fromkeys(f"{report.date[:10]}, {report.machine.get('device', '')}" for report in reports)
    heading = "; ".join(titles) + "   (tick: the time of the arithmetic alone; pale line: least to most)"
    height = MARGIN + TITLE + sum(panel.height for panel in panels)
    picture = Image.new("RGB", (WIDTH, height), PAPER)
    draw = ImageDraw.Draw(picture)
    draw.text((MARGIN, MARGIN), heading, INK, _font(18))
    top = MARGIN + TITLE
    for panel in panels:
        if isinstance(panel, GrowthPanel):
            draw_growth(draw, panel, (MARGIN, WIDTH - RIGHT, top), LINES, _font)
        else:
            _draw(draw, panel, top)
        top += panel.height
    picture.save(path, "PNG")


def _by_device(reports: Sequence[Report]) -> list[Panel | GrowthPanel]:
    """Each device has panels of its own."""
    devices: dict[str, list[Record]] = {}
    for report in reports:
        devices.setdefault(report.machine.get("device", ""), []).extend(report.records)
    panels: list[Panel | GrowthPanel] = []
    for device, records in devices.items():
        own: list[Panel | GrowthPanel] = [*_panels(records), *growth_panels(records)]
        if len(devices) > 1:
            own = [dataclasses.replace(panel, title=f"{panel.title}, {device}") for panel in own]
        panels += own
    return panels


def _panels(records: Sequence[Record]) -> list[Panel]:
    """One for each model and part, its bars from small to large."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        if record.part in PARTS:
            groups.setdefault((record.model, _scale(record)), []).append(record)
    panels: list[Panel] = []
    for (model, part), group in sorted(groups.items()):
        panels.append(Panel(f"{model}: {part}", tuple(sorted(group, key=_order))))
        growing = [record for record in panels[-1].records if record.engine == "mlx" and record.unit == "s"]
        if len({(record.width, record.height, record.n) for record in growing}) >= GROWING:
            panels.append(Panel(f"{model}: {part}, for each megapixel", tuple(map(_each_megapixel, growing))))
    return panels


def _each_megapixel(record: Record) -> Record:
    """Equal bars mean that cost grows with the number of pixels."""
    megapixels = record.n * record.width * record.height / 2**20
    if record.part == "step":
        megapixels /= record.n
    values = tuple(value / megapixels for value in record.values)
    return replace(record, values=values, floor=record.floor / megapixels)


def _scale(record: Record) -> str:
    """The panel: parts that compare with one another share one."""
    if record.unit == "tokens/s":
        return "tokens a second"
    names = {"strips": "decode", "picture": "whole picture", "http": "whole picture"}
    return names.get(record.part, record.part)


def _order(record: Record) -> tuple[int, int, int, str, int]:
    engine = (*COLOURS, record.engine).index(record.engine)  # ours first
    return (
        record.width * record.height + sum(record.prompt_tokens),
        record.n,
        record.clients,
        record.part,
        engine,
    )


def _draw(draw: ImageDraw.ImageDraw, panel: Panel, top: int) -> None:
    draw.text((MARGIN, top), panel.title, INK, _font(16))
    room = WIDTH - LEFT - RIGHT
    for at, record in enumerate(panel.records):
        y = top + TITLE + at * (BAR + GAP)
        end = LEFT + max(2, round(room * record.median / panel.longest))
        draw.text((LEFT - 10, y + 1), _label(record), INK, _font(13), anchor="ra")
        draw.rectangle((LEFT, y, end, y + BAR - 4), fill=COLOURS.get(record.engine, OTHER))
        low, high = (
            LEFT + round(room * value / panel.longest) for value in (min(record.values), max(record.values))
        )
        draw.line((low, y + 8, high, y + 8), fill=PALE, width=2)
        if record.floor:
            floor = LEFT + round(room * record.floor / panel.longest)
            draw.line((floor, y - 2, floor, y + BAR - 2), fill=INK, width=2)
        draw.text((max(end, high) + 8, y + 1), amount(record.median, record.unit), INK, _font(13))


def _label(record: Record) -> str:
    words = [record.engine, record.part, record.size, f"n={record.n}" if record.n > 1 else ""]
    words += [
        counted(record.clients, "client"),
        *show_prompts(record.prompt_tokens, record.long, record.long_share),
        record.quantize and f"{record.quantize} bits",
        record.memory if record.memory == "staged" else "",
    ]
    return " ".join(filter(None, words))


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
