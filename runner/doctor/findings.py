"""The doctor's findings."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"  # it works, but worse than it could
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """`advice`: what to do when something is wrong."""

    section: str
    name: str
    status: Status
    detail: str
    advice: str = ""


def worst(findings: Iterable[Finding]) -> Status:
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
