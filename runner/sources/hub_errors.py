"""Turns errors of the hub client into errors that tell the user what to do next."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx2
from huggingface_hub import errors as hub_errors
from huggingface_hub import get_token

from runner.errors import (
    Busy,
    DiptychError,
    HubUnreachable,
    ModelNotFound,
    ModelNotSupported,
    NotAllowed,
    NotEnoughDisk,
)
from runner.sources.hub import cache_folder, offline_error
from runner.sources.name import HubName

# Raised by writing, never by a connection.
DISK_ERRORS = (errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
LOGIN = "log in with `hf auth login`, or set HF_TOKEN"


def endpoint() -> str:
    """The hub's address: the public one, or HF_ENDPOINT."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


@contextmanager
def explained(hub: HubName) -> Iterator[None]:
    """Turn errors of the client and the disk into DiptychErrors."""
    try:
        yield
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        raise explain(error, hub) from error


def explain(error: BaseException, hub: HubName) -> DiptychError:
    """The DiptychError for an error of the client or the disk."""
    if isinstance(error, hub_errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        error = error.__cause__  # the client wraps the actual error in "not in the cache either"
    if isinstance(error, hub_errors.HfHubHTTPError):
        return _refused(error, hub)
    if isinstance(error, hub_errors.OfflineModeIsEnabled):
        return offline_error(hub)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return NotEnoughDisk(
            f"the disk is full: {cache_folder()} cannot take {hub}; make room, or set HF_HOME to another disk. "
            "The download resumes where it stopped"
        )
    if isinstance(error, OSError) and (error.filename or error.errno in DISK_ERRORS):
        return ModelNotSupported(
            f"the hub's cache {cache_folder()} cannot be used: {_plain(error)}; set HF_HOME to a folder that can be written"
        )
    reason = _plain(error) or type(error).__name__
    return HubUnreachable(
        f"{hub} is not on this machine, and the hub at {endpoint()} cannot be reached ({reason[:300]}); "
        "check the connection and try again; a download resumes where it stopped"
    )


def _plain(error: BaseException) -> str:
    """Its message without the error number that Python puts before it."""
    return re.sub(r"\[Errno -?\d+\] ", "", str(error))


def _refused(error: hub_errors.HfHubHTTPError, hub: HubName) -> DiptychError:
    status = error.response.status_code
    if isinstance(error, hub_errors.GatedRepoError):
        after = "with an account that has been granted access" if get_token() else f"and {LOGIN}"
        return NotAllowed(f"{hub} is gated: accept its terms at {endpoint()}/{hub.repo} {after}")
    if isinstance(error, hub_errors.DisabledRepoError):
        return NotAllowed(f"{hub} has been disabled on the hub")
    if isinstance(error, hub_errors.RevisionNotFoundError):
        return ModelNotFound(
            f"hub repo {hub.repo} has no revision {hub.revision!r}; name a branch, tag or full commit id, or leave it out"
        )
    if isinstance(error, hub_errors.RepositoryNotFoundError):
        after = "ask its owner for access" if get_token() else LOGIN
        return ModelNotFound(
            f"the hub has no repo {hub.repo}; check the spelling, and if it is private, {after}"
        )
    if isinstance(error, hub_errors.EntryNotFoundError):
        return ModelNotSupported(f"{hub} lacks a file that its listing names: {error.response.url.path}")
    if status in (401, 403):
        return NotAllowed(
            f"the hub refuses access to {hub} with the token that is set ({status}): it is invalid, expired or too "
            f"narrow; {LOGIN}"
        )
    if status == 429:
        return Busy(f"the hub limits requests (429) for {hub}; try again later, or {LOGIN}", 60)
    return HubUnreachable(f"the hub at {endpoint()} responded with {status} for {hub}; try again later")
