"""A model in Ollama's store: one blob per tensor, or per pack of tensors, and its JSON files as blobs too."""

import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping
from functools import cached_property
from pathlib import Path

from models.checkpoint.safetensors import Header, TensorInfo
from models.files import LocalModel, Shard, open_regular
from models.tokenizers.template_location import GO_TEMPLATE_FILE
from runner.errors import ModelNotSupported
from runner.paths import cache_folder
from runner.sources.base import ModelMode, Progress, some, tensor_header
from runner.sources.name import ModelName, OllamaName
from runner.sources.ollama_gguf import OllamaGGUF
from runner.sources.ollama_model import OllamaModel
from runner.sources.ollama_store import (
    ADAPTER,
    GGUF,
    JSON,
    TEMPLATE,
    TENSOR,
    Layer,
    Manifest,
    read_manifest,
)
from runner.sources.required_files import TEXTS, required_files
from runner.sources.texts import move_into_place

# The parts of a quantized layer, by what follows the name of its weight (a dot in Ollama's newer blobs; in older ones they
# are layers of their own), and what MLX calls them in place of "weight".
PARTS = {
    ".scale": "scales", ".bias": "biases", ".global_scale": "global_scale", "_scale": "scales", "_qbias": "biases",
}  # fmt: skip


class OllamaFiles(OllamaModel):
    """A model of the store. Its JSON layers are its files; tensors are in `shards`."""

    def __init__(self, name: OllamaName, manifest: Manifest) -> None:
        super().__init__(name, manifest)
        if manifest.of_type(ADAPTER):
            raise ModelNotSupported(
                f"{self.place} has an adapter beside a safetensors model; those of GGUF models run"
            )
        self._by_digest = {layer.digest: layer for layer in manifest.layers}
        self._headers: dict[str, Header] = {}

    def listing(self) -> Mapping[str, int]:
        return self._listing

    @cached_property
    def _listing(self) -> dict[str, int]:
        return {name: self._size(layer) for name, layer in self._json.items()}

    @cached_property
    def _json(self) -> dict[str, Layer]:
        templates = self.manifest.of_type(TEMPLATE)
        template = {GO_TEMPLATE_FILE: templates[-1]} if templates else {}
        return template | {layer.name: layer for layer in self.manifest.of_type(JSON)}

    def _size(self, layer: Layer) -> int:
        return self._file(layer).stat().st_size

    def _read(self, path: str) -> bytes:
        return self._blob(self._json[path])

    def folders(self) -> list[str]:
        tensors = {layer.name.split("/")[0] for layer in self.manifest.of_type(TENSOR) if "/" in layer.name}
        return sorted(tensors.union(super().folders()))

    def weights(self, component: str) -> tuple[str, ...]:
        return tuple(layer.name for layer in self._tensor_layers(component))

    def _tensor_layers(self, component: str) -> list[Layer]:
        prefix = f"{component}/" if component else ""
        return [layer for layer in self.manifest.of_type(TENSOR) if layer.name.startswith(prefix)]

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        tensors: dict[str, TensorInfo] = {}
        for digest, renamed in self._renamed(component):
            in_blob = self._headers[digest].tensors
            tensors |= {name: in_blob[key] for key, name in renamed.items()}
        return tensors

    def declared_quantization(self, component: str) -> set[str]:
        digests = {layer.digest for layer in self._tensor_layers(component)}
        return {
            value
            for digest in digests
            for key, value in self._header(digest).metadata.items()
            if key == "quant_type" or key.endswith(".quant_type")
        }

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        required_files(self, mode)
        for layer in self.manifest.layers:
            self._file(layer)
        return LocalModel(self.name, self._folder(), self._shards)

    def _shards(self, component: str) -> tuple[Shard, ...]:
        return tuple(
            Shard(self._file(self._by_digest[digest]), renamed)
            for digest, renamed in self._renamed(component)
        )

    def _header(self, digest: str) -> Header:
        if digest not in self._headers:
            self._headers[digest] = tensor_header(self._file(self._by_digest[digest]))
        return self._headers[digest]

    def _renamed(self, component: str) -> list[tuple[str, dict[str, str]]]:
        """For each blob, in the manifest's order: the keys of its tensors, and the names that they load under."""
        by_blob: dict[str, list[Layer]] = {}
        for layer in self._tensor_layers(component):
            by_blob.setdefault(layer.digest, []).append(layer)
        chosen = [
            (digest, keys)
            for digest, layers in by_blob.items()
            for keys in _keys(self._header(digest).tensors, layers, component)
        ]
        packed = {
            name
            for digest, keys in chosen
            for key, name in keys.items()
            if self._header(digest).tensors[key].dtype == "U32"
        }
        named = [
            (digest, {key: mlx_name(name, packed) for key, name in keys.items()}) for digest, keys in chosen
        ]
        self._check_unique(name for _, names in named for name in names.values())
        return named

    def _check_unique(self, names: Iterable[str]) -> None:
        seen: set[str] = set()
        twice = [name for name in names if name in seen or seen.add(name)]  # type: ignore[func-returns-value]
        if twice:
            raise ModelNotSupported(f"{self.place} has tensors twice: {some(twice)}")

    def _folder(self) -> Path:
        """A folder with copies of the JSON layers at their paths, because tokenizers are read from folders."""
        folder = cache_folder() / "ollama" / self.manifest.digest
        texts = {name: layer for name, layer in self._json.items() if name.endswith(TEXTS)}
        if all(_size(folder / name) == self._listing[name] for name in texts):
            return folder
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            fresh = Path(tempfile.mkdtemp(prefix=f".{self.manifest.digest[:12]}-", dir=folder.parent))
            try:
                for name, layer in texts.items():
                    (fresh / name).parent.mkdir(parents=True, exist_ok=True)
                    with open_regular(self._file(layer)) as source, open(fresh / name, "xb") as target:
                        shutil.copyfileobj(source, target)
                move_into_place(fresh, folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
        except OSError as error:
            raise ModelNotSupported(
                f"the JSON of {self.place} cannot be copied to {folder}: {error.strerror or error}; "
                "set DIPTYCH_CACHE to a folder that can be written"
            ) from error
        return folder


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _keys(stored: Mapping[str, TensorInfo], layers: list[Layer], component: str) -> list[dict[str, str]]:
    """The keys of a blob that layers refer to, with the layers' names without the component. One map per layer, because
    several layers may refer to the same "data"; layers that name none of the keys stand for the whole pack."""
    prefix = f"{component}/" if component else ""
    chosen: list[dict[str, str]] = []
    packed = False
    for layer in layers:
        name = layer.name.removeprefix(prefix)
        key = next((key for key in (layer.name, name, "data") if key in stored), None)
        if key is None:
            packed = True
        else:
            parts = [part for part in PARTS if part.startswith(".") and key + part in stored]
            chosen.append({key: name} | {key + part: name + part for part in parts})
    if packed:
        taken = {key for keys in chosen for key in keys}
        chosen.append({key: key.removeprefix(prefix) for key in stored if key not in taken})
    return chosen


def mlx_name(name: str, packed: Collection[str]) -> str:
    """MLX's name for a part of a quantized layer whose weight is among `packed`; other names are unchanged."""
    for ending, part in PARTS.items():
        weight = name.removesuffix(ending)
        if weight != name and weight.endswith(".weight") and weight in packed:
            return weight.removesuffix("weight") + part
    return name


def open_ollama(name: OllamaName, manifest: Manifest) -> OllamaModel:
    """The model of a manifest, in either of the formats that Ollama has."""
    is_gguf = manifest.of_type(GGUF) and not manifest.of_type(TENSOR)
    return OllamaGGUF(name, manifest) if is_gguf else OllamaFiles(name, manifest)


def find_ollama(name: ModelName) -> OllamaModel | None:
    """The model of that name in Ollama's store; None when there is none."""
    ollama = name.ollama
    manifest = read_manifest(ollama) if ollama else None
    return open_ollama(ollama, manifest) if ollama and manifest else None
