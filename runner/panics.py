"""Panics of libraries written in Rust: an exception that `except Exception` does not catch, of a class that each library
makes for itself and none exports."""


def is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def is_failure(error: BaseException) -> bool:
    """What went wrong in some work, as against what is meant to end it (SystemExit, CancelledError, …)."""
    return isinstance(error, Exception) or is_panic(error)
