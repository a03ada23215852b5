"""What memory is left, on the machine and in a container."""

from pathlib import Path

import pytest

from runner.hardware import available_memory
from tests.runner.checkpoints import write

MEMINFO = b"MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    600 kB\n"
PLENTY = b"9223372036854771712\n"


@pytest.mark.parametrize(
    ("files", "bytes"),
    [
        ({"meminfo": MEMINFO}, 600 * 1024),
        ({"meminfo": MEMINFO, "memory.max": b"max\n", "memory.current": b"5\n"}, 600 * 1024),
        (
            {
                "meminfo": MEMINFO,
                "memory.max": b"200000\n",
                "memory.current": b"150000\n",
                "memory.stat": b"anon 9\ninactive_file 40000\n",
            },
            90_000,
        ),
        (
            {
                "meminfo": MEMINFO,
                "memory/memory.limit_in_bytes": b"100\n",
                "memory/memory.usage_in_bytes": b"120",
            },
            0,
        ),
        (
            {
                "meminfo": MEMINFO,
                "memory/memory.limit_in_bytes": PLENTY,
                "memory/memory.usage_in_bytes": b"1",
            },
            600 * 1024,
        ),
        ({}, None),
        ({"meminfo": b"nonsense\n\nMemAvailable: many kB\n"}, None),
    ],
)
def test_what_is_left_is_the_least_of_the_machines_and_the_containers(
    tmp_path: Path, files: dict[str, bytes], bytes: int | None
) -> None:
    write(tmp_path, files)
    assert available_memory(tmp_path / "meminfo", tmp_path) == bytes


def test_this_machine_says() -> None:
    assert (available_memory() or 0) > 0
