"""Compiles JSON schemas and other grammars to llguidance's matchers, after a trial in a separate process.

A few small schemas overflow the compiler's stack or make it run forever, before any of its own limits applies. A client
can send one, so each grammar is first compiled in a process that may crash: this file, run as a script. It therefore
imports only llguidance and the standard library.
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

# Seconds until a trial is abandoned, however little processor time it got.
TRIAL_TIMEOUT_S = 60
MEMORY = 2 * 1024**3
# The compiler recurses along chains of $ref: a schema of 128 KiB took up to 32 MiB of stack.
STACK = 128 * 1024**2
REFUSED, SLOW = 3, 4
SIGPROF: int = getattr(signal, "SIGPROF", 0)
# Overrides "x-guidance" in a schema: the output stays JSON, and white space is bounded (a model can get stuck in it).
OPTIONS = {
    "item_separator": ",",
    "key_separator": ":",
    "whitespace_pattern": r"[\x20\x0A\x0D\x09]{1,64}",
}
# The stack size of new threads is a setting of the whole process.
_STACK_SIZE = threading.Lock()


class SchemaError(ValueError):
    """A schema that cannot be compiled; the message says why, in one line."""


class TooSlow(SchemaError):
    """A schema that takes too long to compile."""


def schema_grammar(schema: str) -> str:
    """A JSON schema as a grammar in llguidance's format."""
    try:
        return str(LLMatcher.grammar_from_json_schema(schema, overrides=OPTIONS))
    except ValueError as error:
        raise SchemaError(_one_line(str(error))) from None


def compile_grammar(vocabulary: LLTokenizer, grammar: str) -> LLMatcher:
    """A new matcher for the grammar. It is not tied to a thread."""
    try:
        return _on_deep_stack(lambda: _compile(vocabulary, grammar))
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # each Rust extension has its own class of this name
            raise
        raise SchemaError("the schema is too complex") from error


def try_grammar(grammar: str, seconds: float) -> None:
    """Compile the grammar in a separate process. Raises SchemaError if that fails or crashes, TooSlow if it takes more
    processor time than `seconds`."""
    too_slow = TooSlow(f"the schema takes more than {seconds:g} seconds to compile")
    command = [sys.executable, "-P", __file__, str(seconds)]
    try:
        done = subprocess.run(command, input=grammar.encode(), capture_output=True, timeout=TRIAL_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        raise too_slow from None
    if done.returncode in (SLOW, -SIGPROF):
        raise too_slow
    if done.returncode == REFUSED:
        raise SchemaError(done.stdout.decode(errors="replace").strip())
    if done.returncode:
        raise SchemaError("the schema is too complex")


def reason(engine: LLMatcher) -> str:
    """Why a matcher failed, in one line; empty if it did not."""
    return _one_line(engine.get_error()) if engine.is_error() else ""


def _compile(vocabulary: LLTokenizer, grammar: str) -> LLMatcher:
    # A lexer state takes one or two kilobytes.
    limits = LLParserLimits(max_lexer_states=50_000, verbose_errors=False)
    engine = LLMatcher(vocabulary, grammar, log_level=0, limits=limits)
    # Only the first mask shows that some schemas have no instance, or are too complex.
    engine.compute_bitmask()
    if engine.is_error():
        raise SchemaError(reason(engine))
    return engine


def _one_line(message: str) -> str:
    line = message.strip().split("\n", 1)[0]
    if line.startswith("panic"):
        return "the schema is too complex"
    if line.startswith("NoExtension"):
        return "no value satisfies the schema"
    return line[:300]


def _on_deep_stack(work: Callable[[], LLMatcher]) -> LLMatcher:
    """Run the work on a new thread with a stack large enough for long chains of references."""
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
    except ImportError:  # not available on Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _limit_time(seconds: float) -> None:
    """Limits processor time, not elapsed time: a busy machine must not make a schema too slow."""
    try:
        signal.setitimer(signal.ITIMER_PROF, seconds)
    except AttributeError:  # not available on Windows
        timer = threading.Timer(seconds, os._exit, [SLOW])
        timer.daemon = True
        timer.start()


def _main(seconds: float) -> int:
    # End even if the parent process is gone.
    faulthandler.dump_traceback_later(2 * TRIAL_TIMEOUT_S, exit=True)
    _limit_memory()
    _limit_time(seconds)
    try:
        compile_grammar(LLTokenizer("byte"), sys.stdin.buffer.read().decode())
    except SchemaError as error:
        sys.stdout.buffer.write(str(error).encode())
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(_main(float(sys.argv[1])))
