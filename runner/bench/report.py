"""A page of runs, such as docs/measurements.md: earlier runs stay in it, and so do the notes that people write."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from runner.bench.records import Report
from runner.bench.table import markdown
from runner.errors import BadRequest

HEAD = """\
# Measurements

Runs of `diptych bench`, newest first, written by it and never by hand: medians, and beside them the least and the most of
how many values. The engines of a run take turns. `floor` is the time that the arithmetic of a part takes at the rate of the
best large matrix product that the device did in the same run; in brackets, how many times as long the part took.

"""
FIGURES = "## Figures\n"
NOTES = "## Notes\n"
EMPTY = (
    "What was tried, what was expected, and what came of it. Written by hand; the bench leaves it alone.\n"
)

# A run's section: its heading, its command and its start. Runs on two machines can start in the same second.
SECTION = re.compile(
    r"^### [^\n]*\n\n`([^\n]*)`\n\n(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ), .*?(?=^### |\Z)",
    re.MULTILINE | re.DOTALL,
)
Run = tuple[str, str]  # start, command


def keep(reports: Sequence[Report], path: Path) -> None:
    """Rewrite the page, newest run first: these runs, those already in it, and its notes."""
    new = {(report.date, report.command): markdown(report) for report in reports}
    sections = dict(_sections(path)) | new
    newest = [sections[run].strip() for run in sorted(sections, reverse=True)]
    figures = "\n\n".join(newest)
    path.write_text(f"{HEAD}{FIGURES}\n{figures}\n\n{NOTES}\n{_notes(path)}", encoding="utf-8")


def _sections(path: Path) -> Iterator[tuple[Run, str]]:
    """The runs already in the page."""
    if path.exists():
        figures, _, _ = path.read_text(encoding="utf-8").partition(f"\n{NOTES}")
        for section in SECTION.finditer(figures):
            yield (section[2], section[1]), section[0]


def _notes(path: Path) -> str:
    if not path.exists():
        return EMPTY
    _, heading, notes = path.read_text(encoding="utf-8").partition(f"\n{NOTES}")
    if not heading:
        raise BadRequest(
            f"{path} is not a page of the bench (it has no heading {NOTES.strip()!r}): give a new file, or one that "
            "the bench wrote"
        )
    return notes.lstrip("\n")
