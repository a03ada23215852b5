"""A GGUF of a hub repo that is not on this machine yet: its header by range requests, and its download."""

from functools import cached_property
from pathlib import Path
from typing import ClassVar

from models.checkpoint.gguf.header import FIRST_READ, GGUFHeader, HeaderCut, Tensor, parse_gguf_header
from models.files import LocalModel
from models.language.gguf.model import GGUFModel
from models.language.gguf.projector import Projector
from runner.errors import HubUnreachable
from runner.sources.base import ModelMode, Progress
from runner.sources.gguf import GGUFFiles, model_files
from runner.sources.gguf_projector import projector_of
from runner.sources.hub_api import RemoteFiles
from runner.sources.hub_cached_gguf import USUAL, CachedGGUF, holds_gguf
from runner.sources.hub_errors import explained
from runner.sources.name import HubName, Source


class RemoteGGUF(GGUFFiles):
    """One model of a commit that may hold several."""

    source: ClassVar[Source] = "hub"

    def __init__(self, hub: HubName, remote: RemoteFiles) -> None:
        names = model_files(remote.listing(), remote.place, hub.quantization, USUAL)
        super().__init__(str(hub), [Path(name) for name in names])
        self.hub = hub
        self.remote = remote
        self.names = names
        self.projector_name = projector_of(names[0], remote.listing())
        self.commit = remote.commit

    @property
    def place(self) -> str:
        return f"hub repo {self.name}"

    @cached_property
    def model(self) -> GGUFModel:
        with explained(self.hub):
            return self._checked(self._open)

    def _open(self) -> GGUFModel:
        name = self.projector_name
        projector = None if name is None else Projector.of(self._header(name), f"{self.place} with {name}")
        return GGUFModel.of(tuple(map(self._header, self.names)), self._small_tensor, self.place, projector)

    def _header(self, name: str) -> GGUFHeader:
        size, label = self.remote.listing()[name], f"{name} in {self.place}"
        length = min(FIRST_READ // 8, size)
        while True:
            raw = self.remote.read_range(name, 0, length)
            if len(raw) < length:
                raise HubUnreachable(f"{label} ends after {len(raw):,} of {length:,} bytes; try again later")
            try:
                return parse_gguf_header(raw, size, label)
            except HeaderCut as cut:
                length = min(max(cut.needed, 4 * length), size)

    def _small_tensor(self, number: int, tensor: Tensor) -> bytes:
        return self.remote.read_range(self.names[number], tensor.start, tensor.start + tensor.nbytes)

    def sizes(self) -> dict[str, int]:
        return {name: self.remote.listing()[name] for name in self._needed}

    @property
    def _needed(self) -> tuple[str, ...]:
        return self.names if self.projector_name is None else (*self.names, self.projector_name)

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        self.remote.download(self._needed, progress)
        folder = self.remote.snapshot
        projector = None if self.projector_name is None else folder / self.projector_name
        return CachedGGUF(self.hub, [folder / name for name in self.names], folder, projector).fetch(mode)


def remote_files(hub: HubName) -> RemoteFiles | RemoteGGUF:
    """The repo on the hub, or one of its GGUF files."""
    remote = RemoteFiles(hub)
    return RemoteGGUF(hub, remote) if holds_gguf(hub, remote.listing()) else remote
