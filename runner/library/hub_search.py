"""Models on the hub, found by words."""

from collections.abc import Iterator
from typing import Any, Literal

from msgspec import Struct

from runner.errors import HubUnreachable
from runner.sources.hub import offline
from runner.sources.name import parse_hub_name

Kind = Literal["text", "image"]
TASKS = {"text": "text-generation", "image": "text-to-image"}
EXPAND: Any = ["downloads", "likes", "gated", "pipeline_tag", "tags", "safetensors", "gguf", "lastModified"]
LICENSE = "license:"


class HubModel(Struct, frozen=True):
    """A repo as the hub describes it; null and "" are what it does not say. `parameters` counts weights, `gated` means that
    its owner wants terms accepted first."""

    name: str
    task: str
    license: str
    downloads: int
    likes: int
    gated: bool
    parameters: int | None
    gguf: bool
    updated: str


def search_hub(text: str, kind: Kind | None, limit: int) -> list[HubModel]:
    """The most downloaded that match. HubUnreachable when the hub cannot be asked."""
    if offline():
        raise HubUnreachable("HF_HUB_OFFLINE forbids the network; unset it to search the hub")
    # Imported late: the hub client takes longer to load than everything else together.
    import httpx2
    from huggingface_hub import HfApi

    from runner.sources.hub_errors import endpoint

    task = TASKS[kind] if kind else None
    try:
        found = HfApi(endpoint=endpoint()).list_models(
            search=text or None, pipeline_tag=task, sort="downloads", limit=limit, expand=EXPAND
        )
        return list(_described(found))
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError, TypeError) as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise HubUnreachable(f"{endpoint()} cannot be searched: {reason}") from error


def _described(found: Any) -> Iterator[HubModel]:
    for info in found:
        name, tags = str(info.id), [str(tag) for tag in info.tags or ()]
        if parse_hub_name(name, forced=True) is None:
            continue  # no name that could be asked for
        yield HubModel(
            name=name,
            task=str(info.pipeline_tag or ""),
            license=next((tag.removeprefix(LICENSE) for tag in tags if tag.startswith(LICENSE)), ""),
            downloads=int(info.downloads or 0),
            likes=int(info.likes or 0),
            gated=bool(info.gated),
            parameters=_parameters(info),
            gguf="gguf" in tags,
            updated=info.last_modified.isoformat() if info.last_modified else "",
        )


def _parameters(info: Any) -> int | None:
    total = info.safetensors.total if info.safetensors else (info.gguf or {}).get("total")
    return total if isinstance(total, int) else None
