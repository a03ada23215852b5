"""docs/performance.md, made of reports; earlier runs stay there, and what people wrote below the notes' heading."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.bench.records import Report
from runner.bench.table import markdown
from runner.errors import BadRequest

HEAD = """\
# Performance

The figures are written by the bench ([bench.md](bench.md)), never by hand: medians, beside them the least and the most, of
how many. Engines take turns in one run. `floor` is the arithmetic of a part at the rate of the best large matrix product
that the device did in the same run, and in brackets how many times that the part took.

"""
FIGURES = "## Figures\n"
NOTES = "## Notes\n"
EMPTY = (
    "What was tried, what was expected of it, what was found. Written by hand; the bench leaves it alone.\n"
)


# A run's section: its heading, its command and the moment at which it began. Of two cards, two may begin in one second.
SECTION = re.compile(
    r"^### [^\n]*\n\n`([^\n]*)`\n\n(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ), .*?(?=^### |\Z)",
    re.MULTILINE | re.DOTALL,
)
Run = tuple[str, str]  # when, and what


def keep(reports: Sequence[Report], path: Path) -> None:
    """Write the page anew, the latest run first: these, those that were in it, and its notes."""
    new = {(report.date, report.command): markdown(report) for report in reports}
    sections = dict(_sections(path)) | new
    newest = [sections[run].strip() for run in sorted(sections, reverse=True)]
    figures = "\n\n".join(newest)
    path.write_text(f"{HEAD}{FIGURES}\n{figures}\n\n{NOTES}\n{_notes(path)}", encoding="utf-8")


def _sections(path: Path) -> Iterator[tuple[Run, str]]:
    """The runs that are in the page."""
    if path.exists():
        figures, _, _ = path.read_text(encoding="utf-8").partition(f"\n{NOTES}")
        for found in SECTION.finditer(figures):
            yield (found[2], found[1]), found[0]


def _notes(path: Path) -> str:
    if not path.exists():
        return EMPTY
    _, heading, notes = path.read_text(encoding="utf-8").partition(f"\n{NOTES}")
    if not heading:
        raise BadRequest(
            f"{path} is no page of the bench: it has no heading {NOTES.strip()!r}; another file is needed"
        )
    return notes.lstrip("\n")
