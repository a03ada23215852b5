"""The hub's cache: an entry for each commit that is there, under its branch or tag; and removing one."""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from runner.errors import DiptychError, ModelNotSupported
from runner.library.installed import Installed, Removal, described
from runner.sources.base import shorten
from runner.sources.hub import COMMIT, SnapshotFiles, cache_folder, repo_folder
from runner.sources.name import MAIN, HubName, ModelName, parse_hub_name

# What a repo's folder has at most of them before it is something else.
MOST_REFS = 1000


def hub_models(warnings: list[str]) -> Iterator[Installed]:
    """Every commit in the cache."""
    for folder in folders(cache_folder(), warnings):
        if folder.name.startswith("models--"):
            hub = parse_hub_name(folder.name.removeprefix("models--").replace("--", "/"), forced=True)
            if hub is None:
                warnings.append(f"{shorten(folder, 300)} has a name that no repo of the hub has")
            else:
                yield from _commits(hub.repo, folder, warnings)


def _commits(repo: str, folder: Path, warnings: list[str]) -> Iterator[Installed]:
    snapshots = folders(folder / "snapshots", warnings)
    named = refs(folder)
    for snapshot in snapshots:
        commit = snapshot.name
        if not COMMIT.fullmatch(commit):
            warnings.append(f"{shorten(snapshot, 300)} has a name that no commit has")
            continue
        model = _model(HubName(repo, named.get(commit, [commit])[0]), snapshot)
        # A download writes its branch last: the only commit of a repo without branches is one that was begun.
        if not named and len(snapshots) == 1 and model.mode is None:
            model = replace(model, name=hub_name(HubName(repo, MAIN)))
        yield model


def _model(hub: HubName, snapshot: Path) -> Installed:
    files = SnapshotFiles(hub, snapshot)
    model = Installed(hub_name(hub), "hub", 0, modified(snapshot), snapshot.name)
    try:
        model = replace(model, bytes=sum(files.listing().values()))
    except ModelNotSupported as error:
        return replace(model, fault=error.message)
    return described(model, files)


def hub_name(hub: HubName) -> str:
    """The name under which every command finds it."""
    return str(ModelName.shortest("hub", str(hub)))


def refs(repo: Path) -> dict[str, list[str]]:
    """Commit to the branches and tags that mean it, main first."""
    found: dict[str, list[str]] = {}
    paths = (Path(place) / name for place, _, names in os.walk(repo / "refs") for name in names)
    for _, path in zip(range(MOST_REFS), paths, strict=False):
        commit = _short_text(path)
        if COMMIT.fullmatch(commit):
            found.setdefault(commit, []).append(path.relative_to(repo / "refs").as_posix())
    return {commit: sorted(names, key=lambda name: (name != MAIN, name)) for commit, names in found.items()}


def _short_text(path: Path) -> str:
    """The beginning of a small file; "" for what cannot be read. Opening a pipe would wait for a writer."""
    try:
        if not path.is_file():
            return ""
        with open(path, "rb") as file:
            return file.read(100).decode("ascii", "replace").strip()
    except OSError:
        return ""


def folders(place: Path, warnings: list[str]) -> list[Path]:
    """The folders right inside one, by name. One that cannot be read is a warning; one that is not there is empty."""
    try:
        with os.scandir(place) as entries:
            return sorted(Path(entry.path) for entry in entries if entry.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        warnings.append(f"{shorten(place, 300)} cannot be read: {error.strerror or error}")
        return []


def modified(path: Path) -> float:
    """When it was last changed, in seconds since 1970; 0 when the system does not say."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def plan_hub(model: Installed) -> Removal:
    """What goes: the commit's folder, its branches, and the blobs that no other commit of the repo links to."""
    # Imported here: the hub's client takes longer to load than everything else together.
    from huggingface_hub import scan_cache_dir

    hub = ModelName.parse(model.name).hub
    assert hub is not None
    folder = repo_folder(hub)
    cache = scan_cache_dir(cache_folder())
    # This repo alone: one that was renamed lies in the cache under both names, with the same commits.
    repos = frozenset(repo for repo in cache.repos if repo.repo_path.name == folder.name)
    if model.digest not in {revision.commit_hash for repo in repos for revision in repo.revisions}:
        raise ModelNotSupported(
            f"{model.name} is damaged beyond what the hub's client removes; delete {folder}"
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

    names = (hub_name(hub._replace(revision=ref)) for ref in refs(folder).get(model.digest, ()))
    return Removal(
        model, plan.expected_freed_size, run, also=tuple(name for name in names if name != model.name)
    )
