"""The adapters on this machine: those of the folder in the configuration, and those of hub repos in the cache. Reads headers
only."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from models.adapters.spellings import guess_model
from models.checkpoint.safetensors import WeightsError, read_header
from models.files import INDEXES
from runner.library.hub import folders, refs
from runner.sources.adapters import SUFFIX, AdapterSource
from runner.sources.hub import COMMIT, SnapshotFiles, cache_folder
from runner.sources.name import MAIN, HubName, parse_hub_name

# Pieces of tensors' names that adapters alone have.
MARKS = (".lora_", ".lora.", "_lora.", "_lora1.", "_lora2.", ".lokr_", ".hada_")
MOST_LISTED_IN_REPO = 50


@dataclass(frozen=True)
class InstalledAdapter:
    """`model`: the family that its names belong to, where they tell."""

    name: str
    source: Literal["folder", "hub"]
    bytes: int
    model: str | None = None
    fault: str | None = None


def installed_adapters(source: AdapterSource) -> list[InstalledAdapter]:
    """By name. A file that cannot be read is listed with its fault."""
    here = [_described(name, "folder", path) for name, path in source.listing().items()]
    found = [*(adapter for adapter in here if adapter), *_on_hub()]
    return sorted(found, key=lambda adapter: adapter.name.lower())


def _on_hub() -> Iterator[InstalledAdapter]:
    for folder in folders(cache_folder(), []):
        hub = parse_hub_name(folder.name.removeprefix("models--").replace("--", "/"))
        if hub is not None and folder.name.startswith("models--"):
            yield from _of_repo(hub, folder)


def _of_repo(hub: HubName, folder: Path) -> Iterator[InstalledAdapter]:
    """Of the main branch, or of another one if there is only that. Repos of models are left out."""
    by_commit = refs(folder)
    commits = [commit for commit in by_commit if COMMIT.fullmatch(commit)]
    commit = next((one for one in commits if MAIN in by_commit[one]), commits[0] if commits else None)
    snapshot = folder / "snapshots" / commit if commit else None
    if (
        snapshot is None
        or not snapshot.is_dir()
        or any((snapshot / one).exists() for one in (*INDEXES, "config.json"))
    ):
        return
    name = str(hub._replace(revision=by_commit[commit][0] if commit else MAIN))
    files = SnapshotFiles(hub, snapshot)
    listed = sorted(path for path in files.listing() if path.endswith(SUFFIX))[:MOST_LISTED_IN_REPO]
    for path in listed:
        shown = name if len(listed) == 1 else f"{name}:{path.removesuffix(SUFFIX)}"
        adapter = _described(shown, "hub", snapshot / path)
        if adapter is not None and adapter.fault is None:
            yield adapter


def _described(name: str, source: Literal["folder", "hub"], path: Path) -> InstalledAdapter | None:
    """None for a file of something else."""
    try:
        size = path.stat().st_size
        header = read_header(path)
    except (OSError, WeightsError) as error:
        return InstalledAdapter(name, source, 0, fault=str(error))
    if not any(mark in key for key in header.tensors for mark in MARKS):
        return None
    return InstalledAdapter(name, source, size, guess_model(header.tensors))
