"""One commit out of the hub's cache, by the hub's own client, which knows what its commits share."""

from dataclasses import replace

from huggingface_hub import scan_cache_dir

from runner.errors import DiptychError, ModelNotSupported
from runner.library.hub import refs, shown
from runner.library.installed import Installed
from runner.library.removal import Removal
from runner.sources.base import shorten
from runner.sources.hub import cache_folder, parse_hub_name, repo_folder


def plan_hub(model: Installed) -> Removal:
    """What goes: the commit's folder, its branches, and the blobs that no other commit of the repo links to."""
    hub = parse_hub_name(model.name.removeprefix("hf:"), forced=True)
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

    names = (shown(hub._replace(revision=ref)) for ref in refs(folder).get(model.digest, ()))
    return Removal(
        model, plan.expected_freed_size, run, also=tuple(name for name in names if name != model.name)
    )
