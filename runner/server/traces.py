"""The steps of a runner's request, for its trace: how long it waited, and what its last event says that was done."""

import time

from msgspec import Struct

from runner.http.tracing import Span
from runner.protocol.image import ImageDone
from runner.protocol.text import TextDone


def record_steps(span: Span, submitted: float, last: Struct | None) -> None:
    """Steps follow each other without a gap, up to now; before them, the request waited for its turn."""
    if isinstance(last, TextDone):
        steps = {"prompt": last.prompt_eval_duration, "decode": last.eval_duration}
        tokens = {"input": last.prompt_eval_count, "output": last.eval_count, "cached": last.cached}
        span.set({f"gen_ai.usage.{name}_tokens": count for name, count in tokens.items()})
    elif isinstance(last, ImageDone):
        steps = {
            "load": last.load_duration,
            "encode": last.prompt_eval_duration,
            "denoise": last.eval_duration,
            "decode": last.decode_duration,
        }
    else:
        return
    now = time.perf_counter()
    start = max(submitted, now - sum(steps.values()) / 1e9)
    span.step("queue", submitted, start)
    for name, nanoseconds in steps.items():
        end = min(now, start + nanoseconds / 1e9)
        span.step(name, start, end)
        start = end
