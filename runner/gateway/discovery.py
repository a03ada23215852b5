"""Which gateways run: each says so in a small file of its own, by which commands find it on whatever port."""

import contextlib
import logging
import os
import secrets
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from runner.paths import state_folder

log = logging.getLogger("diptych.gateway")

LARGEST = 4096


class GatewayRecord(msgspec.Struct, frozen=True):
    """A gateway as it told of itself. Homes are shared between machines, so it names its own."""

    machine: str
    pid: Annotated[int, Meta(ge=1, le=2**31)]
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    since: float


def folder() -> Path:
    return state_folder() / "gateways"


@contextlib.contextmanager
def advertise(host: str, port: int) -> Iterator[None]:
    """Say that this process is a gateway, for as long as it is. Where nothing can be written it works all the same."""
    path = folder() / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    presence = GatewayRecord(socket.gethostname(), os.getpid(), host, port, time.time())
    try:
        _write(path, msgspec.json.encode(presence))
    except OSError as error:
        log.warning(
            "commands find this gateway only by DIPTYCH_PORT=%d: %s cannot be written: %s",
            port,
            path.parent,
            error.strerror or error,
        )
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    """At once or not at all, and for nobody else to change."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_suffix(".tmp")
    try:
        fresh.touch(mode=0o600)
        fresh.write_bytes(content)
        os.replace(fresh, path)
    except OSError:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise


def gateways() -> list[GatewayRecord]:
    """The gateways of this user on this machine, the latest first. What a killed one left behind is removed."""
    try:
        paths = sorted(folder().glob("*.json"))
    except OSError:
        return []
    found = []
    for path in paths:
        presence = _read(path)
        if presence is None or presence.machine != socket.gethostname():
            continue
        if _lives(presence.pid):
            found.append(presence)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return sorted(found, key=lambda presence: -presence.since)


def _read(path: Path) -> GatewayRecord | None:
    """None for a file that is something else, or has gone meanwhile."""
    try:
        if not path.is_file() or path.stat().st_size > LARGEST:
            return None
        return msgspec.json.decode(path.read_bytes(), type=GatewayRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.debug("%s tells of no gateway: %s", path, error)
        return None


def _lives(pid: int) -> bool:
    """Whether there is such a process of ours; whether it is a gateway, only asking it tells."""
    if sys.platform == "win32":
        return True  # there, the signal that does nothing would end it
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
