"""A GGUF of a hub repo, in the hub client's cache on this machine."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from runner.errors import ModelNotSupported
from runner.sources.gguf import GGUFFiles, has_gguf, model_files
from runner.sources.gguf_projector import projector_of
from runner.sources.hub import SnapshotFiles
from runner.sources.name import HubName, Source

# Taken when a name says none, the first that there is.
USUAL = ("Q4_K_M", "Q4_K_S", "Q4_0", "Q8_0")


class CachedGGUF(GGUFFiles):
    source: ClassVar[Source] = "hub"

    def __init__(
        self, hub: HubName, paths: Sequence[Path], folder: Path, projector: Path | None = None
    ) -> None:
        super().__init__(str(hub), paths, projector)
        self.folder = folder

    @property
    def place(self) -> str:
        return f"hub repo {self.name}"


def holds_gguf(hub: HubName, listing: Mapping[str, int]) -> bool:
    """Whether the name means a GGUF: it says which, or the repo has nothing else."""
    return bool(hub.quantization) or ("config.json" not in listing and has_gguf(listing))


def cached_gguf(hub: HubName, snapshot: SnapshotFiles) -> CachedGGUF | None:
    """The files of one model in a snapshot; None when it does not have them all."""
    try:
        names = model_files(snapshot.listing(), snapshot.place, hub.quantization, USUAL)
        projector = projector_of(names[0], snapshot.listing())
        for name in (*names, projector):
            if name is not None:
                snapshot.file(name)
    except (ModelNotSupported, OSError):
        return None  # they are downloaded, or the hub says what there is
    folder = snapshot.folder
    return CachedGGUF(
        hub, [folder / name for name in names], folder, None if projector is None else folder / projector
    )
