"""Charts of how cost grows: a language model's with the number of clients, and with the length of the prompts."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from PIL import ImageDraw, ImageFont

from runner.bench.records import Record
from runner.bench.table import amount

LEAST_POINTS = 3  # that it takes to show how cost grows
HEIGHT, TITLE, FOOT, STEPS = 320, 34, 56, 4
# The parts whose time is drawn.
BY_CLIENTS = ("gap", "first token", "http")
BY_LENGTH = ("gap", "first token")

Font = Callable[[int], ImageFont.FreeTypeFont | ImageFont.ImageFont]


@dataclass(frozen=True)
class Line:
    engine: str
    points: tuple[tuple[float, float], ...]  # by number of clients, or tokens


@dataclass(frozen=True)
class GrowthPanel:
    """Lines over an axis on which each doubling is as wide as the next."""

    title: str
    axis: str
    unit: str
    lines: tuple[Line, ...]
    height: int = TITLE + HEIGHT + FOOT


def growth_panels(records: Sequence[Record]) -> Iterator[GrowthPanel]:
    """Of each model and part that was measured at three numbers of clients, or lengths of prompts, at least."""
    plain = [record for record in records if record.clients and not record.long]
    for model in dict.fromkeys(record.model for record in plain):
        own = [record for record in plain if record.model == model]
        for part in BY_CLIENTS:
            lines = _lines([record for record in own if record.part == part], by_length=False)
            if lines:
                unit = "tokens/s" if part == "http" else "s"
                shown = "tokens a second" if part == "http" else part
                yield GrowthPanel(f"{model}: {shown} by number of clients", "clients", unit, lines)
        for part in BY_LENGTH:
            lines = _lines([record for record in own if record.part == part], by_length=True)
            if lines:
                yield GrowthPanel(f"{model}: {part} by length of the prompt", "tokens", "s", lines)


def _lines(records: Sequence[Record], by_length: bool) -> tuple[Line, ...]:
    """One for each engine and for each of what else differs."""
    groups: dict[tuple[object, ...], dict[float, float]] = {}
    for record in records:
        length, clients = sum(record.prompt_tokens) / 2, float(record.clients)
        at, fixed = (length, clients) if by_length else (clients, length)
        if at:
            key = (record.engine, fixed, record.dtype, record.quantize)
            groups.setdefault(key, {})[at] = record.median
    found = [
        Line(str(key[0]), tuple(sorted(points.items())))
        for key, points in groups.items()
        if len(points) >= LEAST_POINTS
    ]
    return tuple(found)


def draw_growth(
    draw: ImageDraw.ImageDraw,
    panel: GrowthPanel,
    frame: tuple[int, int, int],
    colours: dict[str, str],
    font: Font,
) -> None:
    """`frame`: left, right and top. What is not an engine's is drawn in the colours "ink" and "pale"."""
    left, right, top = frame
    ink, pale = colours["ink"], colours["pale"]
    draw.text((left, top), panel.title, ink, font(16))
    names: dict[str, None] = dict.fromkeys(line.engine for line in panel.lines)
    for at, name in enumerate(names):
        draw.text((left + 480 + at * 130, top + 2), name, colours.get(name, colours["other"]), font(13))
    floor, ceiling = top + TITLE + HEIGHT, top + TITLE + 12
    inner = left + 80
    places = sorted({x for line in panel.lines for x, _ in line.points})
    most = max(y for line in panel.lines for _, y in line.points)
    wide = math.log2(places[-1] / places[0])

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log2(x / places[0]) / wide
        return inner + across * (right - inner), floor - y / most * (floor - ceiling)

    for step in range(STEPS + 1):
        value = most * step / STEPS
        _, y = place(places[0], value)
        draw.line((inner, y, right, y), fill=pale)
        draw.text((inner - 10, y), amount(value, panel.unit), ink, font(12), anchor="rm")
    for x in places:
        across, _ = place(x, 0)
        draw.text((across, floor + 8), f"{x:g}", ink, font(12), anchor="ma")
    draw.text(((inner + right) / 2, floor + 26), panel.axis, ink, font(12), anchor="ma")
    for line in panel.lines:
        colour = colours.get(line.engine, colours["other"])
        points = [place(x, y) for x, y in line.points]
        draw.line(points, fill=colour, width=3)
        for x, y in points:
            draw.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
