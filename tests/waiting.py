"""How long tests wait: for what should happen, on however busy a machine, and how long is too long; said here alone."""

import asyncio
import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

# Only what has gone wrong takes this long: a machine with ten processes a core is served as well.
PATIENCE = 240 * float(os.environ.get("DIPTYCH_TEST_PATIENCE", "1"))
EVERY = 0.02


def wait_until(
    condition: Callable[[], T],
    explain: Callable[[], object] = lambda: "it did not happen",
    seconds: float = PATIENCE,
) -> T:
    """What `condition` gives as soon as that counts as true; after so long a failure, with what `explain` says."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s: {explain()}"
        time.sleep(EVERY)
    return value


async def until(condition: Callable[[], T], seconds: float = PATIENCE) -> T:
    """The same where an event loop must go on."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"waited {seconds:g} s"
        await asyncio.sleep(EVERY / 10)
    return value
