"""Downloads one large file into the hub client's cache, and resumes after a cut, also in the next process.

The hub client (2.4) resumes within one process only: the next one starts the file again. Nor does it retry after a reset
connection, a 5xx or an expired address, or compare the file with its SHA-256. So the bytes are written here, to a file
beside the cache's blobs that outlives the process, and the client links the finished blob into its snapshot.
"""

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import httpx2
from huggingface_hub import constants, get_hf_file_metadata, get_session
from huggingface_hub.errors import HfHubHTTPError, RepositoryNotFoundError
from huggingface_hub.utils import WeakFileLock, build_hf_headers, hf_raise_for_status

from runner.errors import HubUnreachable

TRIES = 5
PAUSE = 1.0

_SHA256 = re.compile(r"[0-9a-f]{64}")
# Worth a retry: trouble of the network or the hub, and signed addresses that have expired.
_TRANSIENT_STATUS = {403, 408, 416, 429, 500, 502, 503, 504}


def download_blob(url: str, repo: Path, count: Callable[[int], None]) -> None:
    """Download the file at a hub address to the blobs of a repo's folder in the cache; `count` is called with the number of
    bytes as they arrive.

    A file that the hub does not identify by its SHA-256 is left to the client.
    """
    metadata = get_hf_file_metadata(url, headers=build_hf_headers())
    digest, size = metadata.etag, metadata.size
    blobs, locks = repo / "blobs", repo.parent / ".locks" / repo.name
    if not digest or not _SHA256.fullmatch(digest) or not size or (blobs / digest).exists():
        return
    for folder in (blobs, locks):
        folder.mkdir(parents=True, exist_ok=True)
    partial = blobs / f"{digest}.diptych.incomplete"
    with WeakFileLock(locks / f"{digest}.diptych.lock"):
        if not (blobs / digest).exists():
            _complete(url, metadata.location, partial, size, count)
            _verify(partial, digest, count)
            os.replace(partial, blobs / digest)


def _complete(url: str, location: str, partial: Path, size: int, count: Callable[[int], None]) -> None:
    have = _size(partial)
    if have > size:
        partial.unlink()
        have = 0
    count(have)
    failures = 0
    while have < size:
        error: Exception | None = None
        try:
            if failures:  # the signed address of the file expires
                location = get_hf_file_metadata(url, headers=build_hf_headers()).location
            _stream(url, urljoin(url, location), partial, have, count)
        except (httpx2.TransportError, HfHubHTTPError) as raised:
            error = raised
        before, have = have, _size(partial)
        failures = failures + 1 if have <= before else 1
        if have < size:
            if not transient(error) or failures > TRIES:
                raise error or HubUnreachable(f"{url} ends after {have:,} of {size:,} bytes; try again later")
            time.sleep(PAUSE * min(2 ** (failures - 1), 8))


def transient(error: Exception | None) -> bool:
    """Whether a retry may succeed."""
    if isinstance(error, RepositoryNotFoundError):
        return False  # also for gated and private repos
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _TRANSIENT_STATUS


def _stream(url: str, location: str, partial: Path, have: int, count: Callable[[int], None]) -> None:
    """One request for the missing bytes."""
    headers = build_hf_headers() | {"Accept-Encoding": "identity"}
    if _origin(location) != _origin(url):
        headers.pop("authorization", None)  # the token is for the hub, not for its storage
    if have:
        headers["Range"] = f"bytes={have}-"
    timeout = constants.HF_HUB_DOWNLOAD_TIMEOUT
    with get_session().stream(
        "GET", location, headers=headers, timeout=timeout, follow_redirects=True
    ) as response:
        hf_raise_for_status(response)
        continued = response.status_code == 206
        if have and not continued:
            count(-have)
        with open(partial, "ab" if continued else "wb") as file:
            for chunk in response.iter_bytes():
                file.write(chunk)
                count(len(chunk))


def _verify(partial: Path, digest: str, count: Callable[[int], None]) -> None:
    with open(partial, "rb") as file:
        actual = hashlib.file_digest(file, "sha256").hexdigest()
    if actual != digest:
        count(-_size(partial))
        partial.unlink()
        raise HubUnreachable(
            f"a file arrived damaged: its SHA-256 should be {digest} and is {actual}; try again"
        )


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0
