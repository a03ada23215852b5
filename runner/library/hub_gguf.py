"""Removing one of the GGUF models that a commit in the hub client's cache holds; the others stay."""

from collections.abc import Sequence
from pathlib import Path

from runner.errors import ModelNotSupported
from runner.library.installed import Installed, Removal
from runner.sources.base import shorten


def plan_gguf(
    model: Installed, repo: Path, snapshot: Path, names: Sequence[str], also: tuple[str, ...]
) -> Removal:
    """`names`: its files in the snapshot. Blobs that another file links to are kept."""
    links = [snapshot / name for name in names]
    blobs = {link.resolve() for link in links}
    outside = [blob for blob in blobs if not blob.is_relative_to(repo.resolve())]
    if outside:
        raise ModelNotSupported(
            f"{model.name} links to files outside its folder, such as {shorten(outside[0], 300)}; delete {repo} yourself"
        )
    others = (path for path in (repo / "snapshots").rglob("*") if path not in links and path.is_file())
    blobs -= {path.resolve() for path in others}
    freed = sum(blob.stat().st_size for blob in blobs if blob.is_file())

    def run() -> None:
        for path in (*links, *blobs):
            path.unlink(missing_ok=True)

    return Removal(model, freed, run, also=also)
