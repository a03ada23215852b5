"""A loaded model as `diptych ps` shows it."""

from datetime import UTC, datetime
from typing import Any

import pytest

from runner.cli.commands.ps import row
from runner.terminal import table

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDLE: dict[str, Any] = {
    "name": "owner/name", "mode": "text", "state": "ready", "progress": 1.0, "memory": 8_000_000_000, "active": 0,
    "queue": 0, "idle_for": 61.2, "keep_alive": 300.0, "until": "2026-01-01T12:04:00+00:00", "pid": 4711,
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "doing", "until"),
    [
        ({}, "idle 61 s", "in 4 min"),
        ({"state": "loading", "progress": 0.427, "idle_for": None, "until": None}, "loading 43%", ""),
        ({"active": 3, "idle_for": None, "until": None}, "busy (3)", ""),
        ({"keep_alive": -1.0, "until": None}, "idle 61 s", "never"),
        ({"state": "ending", "idle_for": None, "until": None}, "ending", ""),
        ({"until": "2026-01-01T11:00:00+00:00"}, "idle 61 s", "in 0 s"),
    ],
)
def test_it_says_what_it_does_and_how_long_it_stays(changes: dict[str, Any], doing: str, until: str) -> None:
    cells = row(IDLE | changes, {}, NOW)
    assert cells == ("owner/name", "text", "8.00 GB", doing, until, "0", "4711")


def test_its_aliases_stand_beside_it() -> None:
    assert row(IDLE, {"a": "owner/name", "b": "other", "c": "owner/name"}, NOW)[0] == "owner/name (a, c)"


def test_a_process_that_is_not_there_yet_has_no_number() -> None:
    assert row(IDLE | {"pid": None}, {}, NOW)[-1] == ""


def test_the_longest_words_leave_room_for_a_name_at_80_columns() -> None:
    busy = row(IDLE | {"mode": "image", "memory": 999_990_000_000, "queue": 512, "pid": 4_194_304}, {}, NOW)
    lines = table(("NAME", "MAKES", "MEMORY", "STATE", "UNTIL", "QUEUE", "PID"), [busy], 80).splitlines()
    assert len(lines) == 2
    assert all(len(line) <= 80 for line in lines)
