"""The hub client's cache: an entry for each commit, named by its branch or tag; and removing one."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runner.errors import DiptychError, ModelNotSupported
from runner.library.hub_gguf import plan_gguf
from runner.library.installed import Installed, Removal, described
from runner.sources.base import shorten
from runner.sources.gguf import files_with, quantizations
from runner.sources.hub import COMMIT, SnapshotFiles, cache_folder, repo_folder
from runner.sources.hub_cached_gguf import cached_gguf, holds_gguf
from runner.sources.name import MAIN, HubName, ModelName, parse_hub_name

# Branches and tags read per repo.
MAX_REFS = 1000


def hub_models(warnings: list[str]) -> Iterator[Installed]:
    """Every commit in the cache."""
    for folder in folders(cache_folder(), warnings):
        if folder.name.startswith("models--"):
            hub = parse_hub_name(folder.name.removeprefix("models--").replace("--", "/"), forced=True)
            if hub is None:
                warnings.append(f"{shorten(folder, 300)} does not have the name of a hub repo")
            else:
                yield from _commits(hub.repo, folder, warnings)


def _commits(repo: str, folder: Path, warnings: list[str]) -> Iterator[Installed]:
    snapshots = folders(folder / "snapshots", warnings)
    names = refs(folder)
    for snapshot in snapshots:
        commit = snapshot.name
        if not COMMIT.fullmatch(commit):
            warnings.append(f"{shorten(snapshot, 300)} does not have the name of a commit")
            continue
        for model in _models(HubName(repo, names.get(commit, [commit])[0]), snapshot):
            # A download writes its branch last: the only commit of a repo without branches is an unfinished download.
            is_unfinished = not names and len(snapshots) == 1 and model.mode is None
            yield replace(model, name=hub_name(HubName(repo, MAIN))) if is_unfinished else model


def _models(hub: HubName, snapshot: Path) -> Iterator[Installed]:
    """The model of a commit; of one with GGUF files, each quantization."""
    files = SnapshotFiles(hub, snapshot)
    model = Installed(hub_name(hub), "hub", 0, modified(snapshot), snapshot.name)
    try:
        listing = files.listing()
    except ModelNotSupported as error:
        yield replace(model, fault=error.message)
        return
    is_gguf = holds_gguf(hub, listing)
    words = quantizations(listing) if is_gguf else {}
    for word, size in words.items():
        named = hub._replace(quantization=word)
        model = replace(model, name=hub_name(named), bytes=size)
        gguf = cached_gguf(named, files)
        several = f"it has several files of the quantization {word}, or not all of one"
        yield described(model, gguf) if gguf else replace(model, fault=several)
    if not words:
        whole = cached_gguf(hub, files) if is_gguf else None
        yield described(replace(model, bytes=sum(listing.values())), whole or files)


def hub_name(hub: HubName) -> str:
    """The name under which all commands find it."""
    return str(ModelName.shortest("hub", str(hub)))


def refs(repo: Path) -> dict[str, list[str]]:
    """Commits, and the branches and tags that point to each, main first."""
    commits: dict[str, list[str]] = {}
    paths = (Path(place) / name for place, _, names in os.walk(repo / "refs") for name in names)
    for _, path in zip(range(MAX_REFS), paths, strict=False):
        commit = _short_text(path)
        if COMMIT.fullmatch(commit):
            commits.setdefault(commit, []).append(path.relative_to(repo / "refs").as_posix())
    return {commit: sorted(names, key=lambda name: (name != MAIN, name)) for commit, names in commits.items()}


def _short_text(path: Path) -> str:
    """The start of a small file; "" if it cannot be read. Pipes are skipped, since opening one waits for a writer."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            return file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return ""


def folders(place: Path, warnings: list[str]) -> list[Path]:
    """The folders in a folder, by name. Unreadable is a warning; missing is empty."""
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.append(f"{shorten(place, 300)} cannot be read: {error.strerror or error}")
        return []


def modified(path: Path) -> float:
    """The time of the last change, in seconds since 1970; 0 if unknown."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def plan_hub(model: Installed) -> Removal:
    """Removes the commit's folder, its branches, and the blobs that no other commit of the repo links to; of a commit with
    several GGUF models the one alone."""
    # Imported late: the hub client takes longer to load than everything else together.
    from huggingface_hub import scan_cache_dir

    hub = ModelName.parse(model.name).hub
    assert hub is not None
    folder = repo_folder(hub)
    snapshot = folder / "snapshots" / model.digest
    branches = [hub._replace(revision=ref, quantization="") for ref in refs(folder).get(model.digest, ())]
    names = dict.fromkeys(other.name for branch in branches for other in _models(branch, snapshot))
    also = tuple(name for name in names if name != model.name)
    same = tuple(name for name in also if name.endswith(f":{hub.quantization}"))
    if hub.quantization and len(same) < len(also):
        listing = SnapshotFiles(hub, snapshot).listing()
        return plan_gguf(model, folder, snapshot, files_with(listing, hub.quantization), same)
    cache = scan_cache_dir(cache_folder())
    # Only this repo: a renamed one is in the cache under both names, with the same commits.
    repos = frozenset(repo for repo in cache.repos if repo.repo_path.name == folder.name)
    if model.digest not in {revision.commit_hash for repo in repos for revision in repo.revisions}:
        raise ModelNotSupported(
            f"{model.name} is too damaged for the hub client to remove; delete {folder} yourself"
        )
    plan = replace(cache, repos=repos).delete_revisions(model.digest)
    outside = [path for path in plan.blobs if not path.is_relative_to(folder.resolve())]
    if outside:
        raise ModelNotSupported(
            f"{model.name} links to files outside its folder, such as {shorten(outside[0], 300)}; delete {folder} yourself"
        )

    def run() -> None:
        plan.execute()
        left = [path for path in (*plan.repos, *plan.snapshots) if path.exists()]
        if left:
            raise DiptychError(f"{model.name} could not be removed: {left[0]} is still there")

    return Removal(model, plan.expected_freed_size, run, also=also)
