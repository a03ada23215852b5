"""The limit of open files: raised, and kept."""

import subprocess
import sys

import pytest

pytest.importorskip("resource", reason="this system has no such limit")

LAUNCH = """
import resource
from models.open_files import allow_open_files, keep_open_files_limit
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
{then}
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


def limits(soft: int, hard: int, then: str) -> tuple[int, ...]:
    """In a process of its own: a hard limit cannot be raised again."""
    code = LAUNCH.format(soft=soft, hard=hard, then=then)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return tuple(map(int, done.stdout.split()))


def test_the_soft_limit_is_raised_to_what_the_hard_one_lets_us() -> None:
    assert limits(100, 3000, "allow_open_files()") == (3000, 3000)
    assert limits(100, 3000, "allow_open_files(500)") == (500, 3000)
    assert limits(1000, 3000, "allow_open_files(500)") == (1000, 3000)


def test_importing_mlx_lm_changes_nothing() -> None:
    importing = "with keep_open_files_limit():\n    import mlx_lm.utils"
    assert limits(2500, 3000, importing) == (2500, 3000)  # less than it asks for, which by itself is an error
    then = importing + "\nresource.setrlimit(resource.RLIMIT_NOFILE, (300, 3000))"
    assert limits(2500, 3000, then) == (300, 3000)
