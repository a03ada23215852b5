"""The error hierarchy.

    DiptychError
    ├── BadRequest          400   the request is invalid
    │   ├── TooLarge        413   its body exceeds the limit
    │   └── PreviousNotStored 400 the response that it continues is not stored
    ├── KeyNeeded           401   the API key is missing or wrong
    ├── NotAllowed          403   the hub requires a login or accepting terms; a web page without access
    ├── ModelNotFound       404   no such model on this machine or on the hub
    │   └── AdapterNotFound 404   no such adapter
    ├── ModelNotSupported   400   the model exists, but Diptych cannot run it, or its files are broken
    ├── NotStored           404   no such stored response, conversation, item or picture
    ├── UnknownPath         404   there is no such route
    ├── WrongMethod         405   the route exists, but not with this method
    ├── TooSlow             408   its body arrives too slowly
    ├── TooManyHeaders      431   more headers than allowed
    ├── RequestCancelled    499   cancelled by /cancel before it began
    ├── NotEnoughMemory     507   the model does not fit
    ├── NotEnoughDisk       507   the download does not fit on the disk
    ├── HubUnreachable      502   the hub is needed and does not respond
    ├── Busy                503   the queue is full, or the server is stopping
    ├── RunnerFailed        500   a runner died or sent an invalid response
    ├── StoreFailed         500   stored responses cannot be read or written
    ├── NoGateway           502   a command needs the gateway, which is not running
    └── ConfigInvalid       500   a configuration file or variable is invalid

Messages are written for users: they name the field, its value and what is allowed, or say what to do.
"""


class DiptychError(Exception):
    """The base class. The message can be shown to users; `status` is for HTTP, `exit_code` for the shell."""

    status = 500
    exit_code = 1

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """Headers of the HTTP response."""
        return []


class BadRequest(DiptychError):
    status = 400


class TooLarge(BadRequest):
    status = 413


class PreviousNotStored(BadRequest):
    pass


class KeyNeeded(DiptychError):
    status = 401


class NotAllowed(DiptychError):
    status = 403


class ModelNotFound(DiptychError):
    status = 404
    exit_code = 3


class AdapterNotFound(ModelNotFound):
    """Of a request's `loras` or `controls`."""


class ModelNotSupported(DiptychError):
    status = 400


class NotStored(DiptychError):
    status = 404


class UnknownPath(DiptychError):
    status = 404


class WrongMethod(DiptychError):
    """`allowed` lists the methods of the route, for the Allow header."""

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
    """Temporarily full. `retry_after` is an estimate in whole seconds, for the Retry-After header."""

    status = 503

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [(b"retry-after", str(self.retry_after).encode())]


class RunnerFailed(DiptychError):
    status = 500


class StoreFailed(DiptychError):
    status = 500


class NoGateway(DiptychError):
    status = 502
    exit_code = 4


class ConfigInvalid(DiptychError):
    """Raised at startup only."""

    exit_code = 2
