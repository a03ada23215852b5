"""What the doctor finds."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class Status(StrEnum):
    OK = "ok"
    WARN = "warn"  # it works, but worse than it could
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """`advice` says what to do about what is not as it should be."""

    section: str
    name: str
    status: Status
    detail: str
    advice: str = ""


def worst(findings: Iterable[Finding]) -> Status:
    order = list(Status)
    return max((finding.status for finding in findings), key=order.index, default=Status.OK)
