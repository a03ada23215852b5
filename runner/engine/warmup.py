"""The first work of a model that was just loaded, so that nobody waits while its kernels are compiled. No MLX."""

import logging
import time
from collections.abc import Callable

log = logging.getLogger("diptych.warming")


def warm_up(work: Callable[[], None], clear: Callable[[], None]) -> None:
    """Do it. What goes wrong costs time later, and not the load, unless `clear`, which gives back the memory that was taken,
    says that the model cannot be used."""
    began = time.perf_counter()
    log.info("warming up; kernels that this machine has not met are compiled, and kept for the next start")
    try:
        work()
    except Exception as error:
        log.warning("the warm-up failed, so the first request will take longer: %s", error)
        clear()
    else:
        log.info("warmed up in %.1f s", time.perf_counter() - began)
