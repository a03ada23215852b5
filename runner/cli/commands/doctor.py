"""`diptych doctor`: what there is to know of this machine, and what to do about it."""

import argparse
import os
import time
from collections.abc import Iterable, Iterator
from itertools import groupby

from msgspec import to_builtins

from runner.config import Config, load
from runner.doctor.examination import examine
from runner.doctor.findings import Finding, Status, worst
from runner.errors import ConfigInvalid
from runner.terminal import paragraph, print_json, printable

FORMAT = 1  # of the JSON; raised when a reader of it would have to change
INDENT = " " * 8


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    findings = _findings(options.config)
    found = list(findings) if options.json else list(_printed(findings))
    status, seconds = worst(found), round(time.monotonic() - began, 1)
    if options.json:
        about = {"format": FORMAT, "status": status, "seconds": seconds}
        print_json(about | {"findings": to_builtins(found)})
    else:
        print(f"\n{_summary(found)} ({seconds:.0f} s)")
    return int(status is Status.FAIL)


def _findings(stated: str | None) -> Iterator[Finding]:
    """A configuration that is wrong is a finding; what would be without one is looked at all the same."""
    try:
        config: Config = load(stated)
    except (ConfigInvalid, OSError) as error:
        yield Finding(
            "configuration", "file", Status.FAIL, str(error), "`diptych config` says what is in force"
        )
        config = load(environ={"XDG_CONFIG_HOME": os.devnull})  # where no file is
    else:
        told = str(config.path) if config.path.is_file() else f"{config.path}: none, which is fine"
        yield Finding("configuration", "file", Status.OK, told)
    yield from examine(config)


def _printed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Each is printed as soon as it is known, under its section; those that say the same stand in one line."""
    section = ""
    for _, alike in groupby(findings, lambda one: (one.section, one.status, one.detail, one.advice)):
        group = list(alike)
        first = group[0]
        if first.section != section:
            print(f"{chr(10) if section else ''}{first.section}")
            section = first.section
        print(_line(", ".join(one.name for one in group), first), flush=True)
        yield from group


def _line(names: str, finding: Finding) -> str:
    text = printable(" ".join(f"{names}: {finding.detail}".split()))
    lines = [f"  {finding.status:<4}  {paragraph(text, INDENT).lstrip()}"]
    if finding.advice:
        lines.append(paragraph(printable(f"-> {finding.advice}"), INDENT))
    return "\n".join(lines)


def _summary(found: Iterable[Finding]) -> str:
    counts = {status: sum(finding.status is status for finding in found) for status in Status}
    if not counts[Status.FAIL] and not counts[Status.WARN]:
        return "everything is as it should be"
    parts = [_count(counts[Status.FAIL], "failure"), _count(counts[Status.WARN], "warning")]
    return " and ".join(part for part in parts if part)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}" if count else ""
