"""What every model in Ollama's store has, whatever its format: layers, and those of its Modelfile among them."""

from abc import ABC
from pathlib import Path
from typing import Any, ClassVar

from models.files import read_regular
from runner.errors import ModelNotSupported
from runner.sources.base import JSON_LIMIT, ModelFiles, parse_object
from runner.sources.name import OllamaName, Source
from runner.sources.ollama_store import LICENSE, MESSAGES, PARAMS, SYSTEM, TEMPLATE, Layer, Manifest, in_store


class OllamaModel(ModelFiles, ABC):
    source: ClassVar[Source] = "ollama"

    def __init__(self, name: OllamaName, manifest: Manifest) -> None:
        ModelFiles.__init__(self, str(name))  # not what follows in a class of two bases
        self.ollama_name = name
        self.manifest = manifest

    @property
    def place(self) -> str:
        return f"{self.name} in the Ollama store"

    def parameters(self) -> dict[str, Any]:
        """The options in its Modelfile."""
        options: dict[str, Any] = {}
        for layer in self.manifest.of_type(PARAMS):
            options |= parse_object(self._blob(layer), f"the parameters of {self.place}")
        return options

    def system(self) -> str:
        """The system message in its Modelfile."""
        return self._text(SYSTEM)

    def template(self) -> str:
        """The template in its Modelfile, in Go's language."""
        return self._text(TEMPLATE)

    def messages(self) -> list[dict[str, str]]:
        """The messages in its Modelfile, with which every chat begins."""
        import msgspec  # slow to import, and a model is looked at without

        messages: list[dict[str, str]] = []
        for layer in self.manifest.of_type(MESSAGES):
            try:
                messages += msgspec.json.decode(self._blob(layer), type=list[dict[str, str]])
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise ModelNotSupported(f"the messages of {self.place} cannot be read: {error}") from None
        return messages

    def license(self) -> str:
        return self._text(LICENSE)

    def _text(self, media_type: str) -> str:
        blobs = (self._blob(layer) for layer in self.manifest.of_type(media_type))
        return "\n".join(blob.decode("utf-8", "replace") for blob in blobs)

    def _blob(self, layer: Layer) -> bytes:
        file = self._file(layer)
        try:
            return read_regular(file, JSON_LIMIT)
        except OSError as error:
            raise ModelNotSupported(
                f"{layer.name or layer.digest[:19]} of {self.place} cannot be read: {error.strerror or error}"
            ) from error

    def _file(self, layer: Layer) -> Path:
        """The path of a layer's blob, checked to be a regular file of the store with the size in the manifest."""
        try:
            file = in_store(layer.path)
            size = file.stat().st_size
        except OSError as error:
            raise self._incomplete(layer, f"cannot be read ({error.strerror or error})") from error
        if layer.size is not None and size != layer.size:
            raise self._incomplete(layer, f"has {size:,} bytes where the manifest says {layer.size:,}")
        return file

    def _incomplete(self, layer: Layer, reason: str) -> ModelNotSupported:
        return ModelNotSupported(
            f"{self.place} is not complete: {layer.name} ({layer.digest[:19]}…) {reason}; "
            f"pull it again with `ollama pull {self.name}`"
        )
