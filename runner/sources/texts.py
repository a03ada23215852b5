"""Folders of small files that are made, not found: configs and tokenizers, which libraries read from folders."""

import hashlib
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from runner.errors import ModelNotSupported
from runner.paths import cache_folder

TOKENIZER = "tokenizer.json"
# Changes with what is made of the same header: folders that an earlier version wrote are left alone.
VERSION = "1"


def put_texts(
    texts: Mapping[str, bytes], tokenizer: Callable[[], bytes], made_of: memoryview, label: str
) -> Path:
    """A folder with these files and the tokenizer's, in the cache. It is named by their content and by that of `made_of`,
    of which the tokenizer is made, and written once."""
    digest = hashlib.sha256(VERSION.encode())
    digest.update(made_of)
    for name in sorted(texts):
        digest.update(f"{name}\n{len(texts[name])}\n".encode() + texts[name])
    folder = cache_folder() / "gguf" / digest.hexdigest()
    if (folder / TOKENIZER).is_file():
        return folder
    files = {**texts, TOKENIZER: tokenizer()}
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        fresh = Path(tempfile.mkdtemp(prefix=f".{digest.hexdigest()[:12]}-", dir=folder.parent))
        try:
            for name, content in files.items():
                (fresh / name).parent.mkdir(exist_ok=True)
                (fresh / name).write_bytes(content)
            move_into_place(fresh, folder)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
    except OSError as error:
        raise ModelNotSupported(
            f"the JSON of {label} cannot be written to {folder}: {error.strerror or error}; "
            "set DIPTYCH_CACHE to a folder that can be written"
        ) from error
    return folder


def move_into_place(fresh: Path, folder: Path) -> None:
    """Move a finished folder into place atomically; one that another process put there meanwhile is as good."""
    stale = Path(f"{fresh}.old")
    if folder.exists():
        folder.rename(stale)
    try:
        fresh.rename(folder)
    except OSError:
        if not folder.exists():
            raise
    finally:
        shutil.rmtree(stale, ignore_errors=True)
