"""The hub's cache on the disk, as the hub's client writes it: blobs, snapshots that link to them, refs."""

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from runner.sources.hub import cache_folder


def add_repo(
    repo: str, files: Mapping[str, Any], refs: Iterable[str] = ("main",), commit: str | None = None
) -> Path:
    """A commit of a repo; the folder of its snapshot."""
    folder = cache_folder() / f"models--{repo.replace('/', '--')}"
    raw = {
        path: value if isinstance(value, bytes) else json.dumps(value).encode()
        for path, value in files.items()
    }
    name = commit or hashlib.sha1(repr((repo, sorted(raw.items()))).encode()).hexdigest()
    snapshot = folder / "snapshots" / name
    (folder / "blobs").mkdir(parents=True, exist_ok=True)
    for path, content in raw.items():
        blob = folder / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        link = snapshot / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(os.path.relpath(blob, link.parent))
    for ref in refs:
        target = folder / "refs" / ref
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(name)
    return snapshot
