"""How much memory this machine has left to give. No MLX, no process; imports nothing of ours."""

from collections.abc import Iterator
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")
# Under a control group's folder, of version 2 and 1: the limit, what is used, and what of that are files that can go.
_NAMES = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


def available_memory(meminfo: Path = MEMINFO, cgroups: Path = CGROUPS) -> int | None:
    """Bytes that a process could still take, of the machine and of its container; None when the system does not say."""
    return min((size for size in (_machine(meminfo), *_container(cgroups)) if size is not None), default=None)


def _machine(meminfo: Path) -> int | None:
    sizes = _fields(meminfo)
    return sizes["MemAvailable:"] * 1024 if "MemAvailable:" in sizes else None


def _container(root: Path) -> Iterator[int]:
    for limit, usage, stat, files in _NAMES:
        most, used = _number(root / limit), _number(root / usage)
        if most is not None and used is not None:
            yield max(0, most - used + _fields(root / stat).get(files, 0))


def _fields(path: Path) -> dict[str, int]:
    """Lines of a name and a number."""
    try:
        lines = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdecimal()}


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return None  # no such group, or "max": no limit
