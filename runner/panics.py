"""Panics of libraries written in Rust. `except Exception` does not catch them, and no library exports their class."""


def is_panic(error: BaseException) -> bool:
    return type(error).__name__ == "PanicException"


def is_failure(error: BaseException) -> bool:
    """Whether it is an error, rather than meant to end the task or process (CancelledError, SystemExit, …)."""
    return isinstance(error, Exception) or is_panic(error)
