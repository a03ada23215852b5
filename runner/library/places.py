"""Where the folders were that pictures were made from: a picture names its model, never its path."""

import logging
import os
from pathlib import Path

import msgspec

from models.files import read_regular
from runner.paths import state_folder

log = logging.getLogger("diptych.library")

MOST = 256  # folders that are remembered
LIMIT = 4 * 1024**2


def _file() -> Path:
    return state_folder() / "model-folders.json"


def _read() -> dict[str, str]:
    """From a model's hash to its path; what cannot be read is empty."""
    try:
        return msgspec.json.decode(read_regular(_file(), LIMIT), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        log.debug("%s cannot be read: %s", _file(), error)
        return {}


def remember(digest: str, path: Path) -> None:
    """Put the folder first. If that cannot be written, only its pictures do not find it by themselves."""
    old = _read()
    if not digest or old.get(digest) == str(path):
        return
    new = {digest: str(path), **{key: value for key, value in old.items() if key != digest}}
    file = _file()
    temporary = file.with_suffix(f".{os.getpid()}.tmp")
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary.touch(mode=0o600)
        temporary.write_bytes(msgspec.json.encode(dict(list(new.items())[:MOST])))
        os.replace(temporary, file)
    except OSError as error:
        log.debug("%s cannot be written: %s", file, error)


def place_of(digest: str) -> Path | None:
    """The folder with that hash, if it is still there."""
    path = _read().get(digest)
    return Path(path) if path is not None and Path(path).exists() else None
