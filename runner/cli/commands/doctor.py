"""`diptych doctor`: the state of this machine, and how to fix what is wrong."""

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

FORMAT = 1  # version of the JSON, raised by changes that programs must adapt to
INDENT = " " * 8


def run(options: argparse.Namespace) -> int:
    began = time.monotonic()
    checks = _examine(options.config)
    findings = list(checks if options.json else _printed(checks))
    status, seconds = worst(findings), round(time.monotonic() - began, 1)
    if options.json:
        about = {"format": FORMAT, "status": status, "seconds": seconds}
        print_json(about | {"findings": to_builtins(findings)})
    else:
        print(f"\n{_summary(findings)} ({seconds:.0f} s)")
    return int(status is Status.FAIL)


def _examine(path: str | None) -> Iterator[Finding]:
    """All findings. With an invalid configuration, which is one of them, the rest is checked with the defaults."""
    try:
        config: Config = load(path)
    except (ConfigInvalid, OSError) as error:
        yield Finding(
            "configuration", "file", Status.FAIL, str(error), "`diptych config` shows the configuration"
        )
        config = load(environ={"XDG_CONFIG_HOME": os.devnull})  # a folder without a file
    else:
        detail = str(config.path) if config.path.is_file() else f"{config.path} does not exist, which is fine"
        yield Finding("configuration", "file", Status.OK, detail)
    yield from examine(config)


def _printed(findings: Iterable[Finding]) -> Iterator[Finding]:
    """Print each finding as it comes, under its section; consecutive equal ones share a line."""
    section = ""
    for _, equal in groupby(findings, lambda one: (one.section, one.status, one.detail, one.advice)):
        group = list(equal)
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


def _summary(findings: Iterable[Finding]) -> str:
    counts = {status: sum(finding.status is status for finding in findings) for status in Status}
    if not counts[Status.FAIL] and not counts[Status.WARN]:
        return "everything is fine"
    parts = [_count(counts[Status.FAIL], "failure"), _count(counts[Status.WARN], "warning")]
    return " and ".join(part for part in parts if part)


def _count(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}" if count else ""
