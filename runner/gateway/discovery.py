"""Discovery of running gateways: each writes a small record file, from which the commands learn its port."""

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

MAX_RECORD_BYTES = 4096


class GatewayRecord(msgspec.Struct, frozen=True):
    """What a gateway writes about itself. It names the machine, because home folders may be shared between machines."""

    machine: str
    pid: Annotated[int, Meta(ge=1, le=2**31)]
    host: Annotated[str, Meta(min_length=1, max_length=255)]
    port: Annotated[int, Meta(ge=1, le=65535)]
    since: float


def folder() -> Path:
    return state_folder() / "gateways"


@contextlib.contextmanager
def advertise(host: str, port: int) -> Iterator[None]:
    """Keep a record of this gateway while it runs. If it cannot be written, there is a warning and nothing else."""
    path = folder() / f"{os.getpid()}-{secrets.token_hex(4)}.json"
    record = GatewayRecord(socket.gethostname(), os.getpid(), host, port, time.time())
    try:
        _write(path, msgspec.json.encode(record))
    except OSError as error:
        log.warning(
            "commands will find this gateway only with DIPTYCH_PORT=%d: cannot write to %s: %s",
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
    """Atomically, and with access for this user only."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    try:
        temporary.touch(mode=0o600)
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def gateways() -> list[GatewayRecord]:
    """The gateways of this user on this machine, latest first. Records of killed gateways are removed."""
    try:
        paths = sorted(folder().glob("*.json"))
    except OSError:
        return []
    records = []
    for path in paths:
        record = _read(path)
        if record is None or record.machine != socket.gethostname():
            continue
        if _is_alive(record.pid):
            records.append(record)
        else:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
    return sorted(records, key=lambda record: -record.since)


def _read(path: Path) -> GatewayRecord | None:
    """None for a file that is not a record, or has been removed."""
    try:
        if not path.is_file() or path.stat().st_size > MAX_RECORD_BYTES:
            return None
        return msgspec.json.decode(path.read_bytes(), type=GatewayRecord)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.debug("%s is not the record of a gateway: %s", path, error)
        return None


def _is_alive(pid: int) -> bool:
    """Whether this user has such a process. Whether it is the gateway, only a request to it can tell."""
    if sys.platform == "win32":
        return True  # on Windows, signal 0 would end it
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
