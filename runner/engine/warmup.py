"""The first work of a freshly loaded model, so that no request waits for kernels to compile. No MLX."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("diptych.warming")


def warm_up(work: Callable[[], None], clear: Callable[[], None]) -> None:
    """Run `work`. A failure only makes the first request slower, unless `clear`, which releases the memory, raises:
    then the model cannot be used."""
    began = time.perf_counter()
    log.info("warming up; kernels that are new on this machine are compiled, and kept for the next start")
    try:
        work()
    except Exception as error:
        log.warning("the warm-up failed, so the first request will take longer: %s", error)
        clear()
    else:
        log.info("warmed up in %.1f s", time.perf_counter() - began)
