"""docs/performance.md, made of reports; what people wrote there, below the notes' heading, stays."""

from collections.abc import Sequence
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


def keep(reports: Sequence[Report], path: Path) -> None:
    """Write the page anew, the latest run first, and the notes that were in it."""
    newest = sorted(reports, key=lambda report: report.date, reverse=True)
    sections = "\n".join(markdown(report) for report in newest)
    path.write_text(f"{HEAD}{FIGURES}\n{sections}\n{NOTES}\n{_notes(path)}", encoding="utf-8")


def _notes(path: Path) -> str:
    if not path.exists():
        return EMPTY
    _, heading, notes = path.read_text(encoding="utf-8").partition(f"\n{NOTES}")
    if not heading:
        raise BadRequest(
            f"{path} is no page of the bench: it has no heading {NOTES.strip()!r}; another file is needed"
        )
    return notes.lstrip("\n")
