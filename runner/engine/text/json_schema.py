"""JSON schemas to llguidance's matchers, and the trial that each new schema has first.

A few small schemas overflow the compiler's stack or keep it busy for ever, before any of its own limits. A client can
send one, so a schema is compiled once by a process that may die of it: this file, run as a script. What it must not
import for that: anything but llguidance and the standard library.
"""

import faulthandler
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import Future

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

# Seconds until a trial is given up, however little of the processor it got.
PATIENCE = 60
MEMORY = 2 * 1024**3
# The compiler recurses along chains of $ref: a schema of 128 KiB has taken up to 32 MiB of stack.
STACK = 128 * 1024**2
REFUSED, SLOW = 3, 4
SIGPROF: int = getattr(signal, "SIGPROF", 0)
# What a schema's own "x-guidance" may not change: JSON stays JSON, and gaps end (an unsure model fills them for ever).
OPTIONS = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,64}",
}
# The size of new stacks is one number for the whole process.
_STACK_SIZE = threading.Lock()


class SchemaError(ValueError):
    """A schema that cannot be compiled; the message says why, in a line."""


class TooSlow(SchemaError):
    """A schema that takes longer than it was given."""


def compile_schema(vocabulary: LLTokenizer, schema: str) -> LLMatcher:
    """A matcher at the beginning of the schema's grammar. It belongs to no thread."""
    try:
        return _on_deep_stack(lambda: _compile(vocabulary, schema))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # each library in Rust makes this class for itself
            raise
        raise SchemaError("the schema is too complex") from error


def try_schema(schema: str, seconds: float) -> None:
    """Compiles the schema in a process of its own; what it says, or dies of, is a SchemaError. TooSlow when it takes
    more than so many seconds of the processor."""
    too_slow = TooSlow(f"the schema takes more than {seconds:g} seconds to compile")
    command = [sys.executable, "-P", __file__, str(seconds)]
    try:
        done = subprocess.run(command, input=schema.encode(), capture_output=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise too_slow from None
    if done.returncode in (SLOW, -SIGPROF):
        raise too_slow
    if done.returncode == REFUSED:
        raise SchemaError(done.stdout.decode(errors="replace").strip())
    if done.returncode:
        raise SchemaError("the schema is too complex")


def reason(engine: LLMatcher) -> str:
    """Why a matcher failed, in a line, or nothing."""
    return _one_line(engine.get_error()) if engine.is_error() else ""


def _compile(vocabulary: LLTokenizer, schema: str) -> LLMatcher:
    try:
        grammar = LLMatcher.grammar_from_json_schema(schema, overrides=OPTIONS)
    except ValueError as error:
        raise SchemaError(_one_line(str(error))) from None
    # Every lexer state takes a kilobyte or two.
    limits = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
    engine = LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
    # Some schemas turn out to have no instance, or to be too complex, at the first mask only.
    engine.compute_bitmask()
    if engine.is_error():
        raise SchemaError(reason(engine))
    return engine


def _one_line(message: str) -> str:
    line = message.strip().split("\n", 1)[0]
    if line.startswith("panic"):
        return "the schema is too complex"
    if line.startswith("NoExtension"):
        return "nothing satisfies the schema"
    return line[:300]


def _on_deep_stack(work: Callable[[], LLMatcher]) -> LLMatcher:
    """Runs the work on a thread of its own, whose stack long chains of references do not overflow."""
    done: Future[LLMatcher] = Future()

    def run() -> None:
        try:
            done.set_result(work())
        except BaseException as error:
            done.set_exception(error)

    thread = threading.Thread(target=run, name="schema")
    with _STACK_SIZE:
        usual = threading.stack_size(STACK)
        try:
            thread.start()
        finally:
            threading.stack_size(usual)
    return done.result()


def _limit_memory() -> None:
    try:
        import resource
    except ImportError:  # Windows has no such limits.
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Of the processor, from now on: a busy machine makes no schema slow."""
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    except AttributeError:  # Windows has no such timers.
        timer = threading.Timer(seconds, os._exit, [SLOW])
        timer.daemon = True
        timer.start()


def _main(seconds: float) -> int:
    # Should the process that waits for this one be gone, it still ends.
    faulthandler.dump_traceback_later(2 * PATIENCE, exit=True)
    _limit_memory()
    _limit_time(seconds)
    try:
        compile_schema(LLTokenizer("byte"), sys.stdin.buffer.read().decode())
    except SchemaError as error:
        sys.stdout.buffer.write(str(error).encode())
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(float(sys.argv[1])))
