"""The first work of a freshly loaded model, so that no request waits for kernels to compile. No MLX.

Picture models warm up before they are ready, language models when they are, while no request is there.
"""

import logging
import time
from collections.abc import Callable, Iterator

log = logging.getLogger("diptych.warming")


STARTS = "warming up; kernels that are new on this machine are compiled, and kept for the next start"
FAILED = "the warm-up failed, so the first requests will take longer: %s"
ENDED = "warmed up in %.1f s"


def warm_up(work: Callable[[], None], clear: Callable[[], None]) -> None:
    """Run `work`. A failure only makes the first request slower, unless `clear`, which releases the memory, raises:
    then the model cannot be used."""
    began = time.perf_counter()
    log.info(STARTS)
    try:
        work()
    except Exception as error:
        log.warning(FAILED, error)
        clear()
    else:
        log.info(ENDED, time.perf_counter() - began)


def warming_up(steps: Iterator[None], clear: Callable[[], None]) -> Iterator[None]:
    """The same for work in steps, between which it may be closed."""
    began = time.perf_counter()
    log.info(STARTS)
    try:
        yield from steps
    except Exception as error:
        log.warning(FAILED, error)
        clear()
    except GeneratorExit:
        log.info("the warm-up waits for a request")
        raise
    else:
        log.info(ENDED, time.perf_counter() - began)
