"""The limit of open files, of which a server has one a client and a lazily loaded model one a file."""

import contextlib
from collections.abc import Iterator
from typing import Any

# macOS refuses more than the second, whatever the hard limit says.
_CEILINGS = (65536, 10240)


def allow_open_files(count: int = _CEILINGS[0]) -> None:
    """Raise the soft limit to so many, or as near as the system lets us."""
    try:
        import resource
    except ImportError:  # Windows has neither the module nor the limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY:
        return
    for most in (count, *_CEILINGS):
        ceiling = min(most, count) if hard == resource.RLIM_INFINITY else min(most, count, hard)
        if soft < ceiling:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_NOFILE, (ceiling, hard))
                return


@contextlib.contextmanager
def keep_open_files_limit() -> Iterator[None]:
    """Around the first import of mlx_lm, which sets both limits for the whole process, the hard one for good."""
    try:
        import resource
    except ImportError:
        yield
        return
    set_limit = resource.setrlimit

    def set_others(kind: int, limits: Any) -> None:
        if kind != resource.RLIMIT_NOFILE:
            set_limit(kind, limits)

    resource.setrlimit = set_others
    try:
        yield
    finally:
        resource.setrlimit = set_limit
