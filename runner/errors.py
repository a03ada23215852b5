"""What can go wrong, drawn once.

    DiptychError
    ├── BadRequest          400   the request says something that cannot be done
    │   └── TooLarge        413   its body is larger than is read
    ├── KeyNeeded           401   no API key, or not the right one
    ├── NotAllowed          403   the hub wants a login or its terms accepted; a page that may not call
    ├── ModelNotFound       404   no such model on this machine or the hub
    ├── ModelNotSupported   400   found, but not something Diptych can run (or broken)
    ├── UnknownPath         404   nothing is there to be asked
    ├── WrongMethod         405   something is, but not by this method
    ├── TooSlow             408   its body hardly arrives
    ├── TooManyHeaders      431   more than are read
    ├── RequestCancelled    499   by /cancel, before it began
    ├── NotEnoughMemory     507   cannot fit
    ├── NotEnoughDisk       507   the download does not fit on the disk
    ├── HubUnreachable      502   the hub is needed and does not answer
    ├── Busy                503   the queue is full, or the server is stopping
    ├── RunnerFailed        500   a runner died or answered nonsense
    ├── NoGateway           502   a command needs the gateway, which does not run
    └── ConfigInvalid       500   a configuration file or a variable says something that is not allowed

The message is written for the user: what was found, what would be accepted, what to do.
"""


class DiptychError(Exception):
    """The root; its message may be shown to a user as it is. `status` is for HTTP, `exit_code` for the shell."""

    status = 500
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """What an HTTP answer says beside it."""
        return []


class BadRequest(DiptychError):
    status = 400


class TooLarge(BadRequest):
    status = 413


class KeyNeeded(DiptychError):
    status = 401


class NotAllowed(DiptychError):
    status = 403


class ModelNotFound(DiptychError):
    status = 404
    exit_code = 3


class ModelNotSupported(DiptychError):
    status = 400


class UnknownPath(DiptychError):
    status = 404


class WrongMethod(DiptychError):
    """`allowed` is for the Allow header: the methods that would have been right."""

    status = 405

    def __init__(self, message: str, allowed: str) -> None:
        super().__init__(message)
        self.allowed = allowed

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"allow", self.allowed.encode())]


class TooSlow(DiptychError):
    status = 408


class TooManyHeaders(DiptychError):
    status = 431


class RequestCancelled(DiptychError):
    status = 499


class NotEnoughMemory(DiptychError):
    status = 507


class NotEnoughDisk(DiptychError):
    status = 507


class HubUnreachable(DiptychError):
    status = 502


class Busy(DiptychError):
    """Full for now; `retry_after` is a guess in whole seconds for the Retry-After header."""

    status = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"retry-after", str(self.retry_after).encode())]


class RunnerFailed(DiptychError):
    status = 500


class NoGateway(DiptychError):
    status = 502
    exit_code = 4


class ConfigInvalid(DiptychError):
    """Only ever raised before anything is served."""

    exit_code = 2
