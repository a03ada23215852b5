"""A GGUF model in Ollama's store: one blob, and the layers of its Modelfile beside it."""

import json
from dataclasses import replace

from models.files import LocalModel, LoraFile
from models.language.gguf.adapter import GGUFAdapter
from models.tokenizers.go_template import calls_as_json
from models.tokenizers.template_location import GO_TEMPLATE_FILE, TEMPLATE_FILE
from runner.errors import ModelNotSupported
from runner.sources.base import ModelMode, Progress
from runner.sources.gguf import GGUFFiles
from runner.sources.name import OllamaName
from runner.sources.ollama_model import OllamaModel
from runner.sources.ollama_store import ADAPTER, GGUF, PROJECTOR, Manifest


class OllamaGGUF(OllamaModel, GGUFFiles):
    def __init__(self, name: OllamaName, manifest: Manifest) -> None:
        OllamaModel.__init__(self, name, manifest)
        self.paths = tuple(self._file(layer) for layer in manifest.of_type(GGUF))
        projectors = manifest.of_type(PROJECTOR)
        if len(projectors) > 1:
            raise ModelNotSupported(f"{self.place} has {len(projectors)} projectors; a model sees with one")
        self.projector = self._file(projectors[0]) if projectors else None
        self._loras = tuple(self._file(layer) for layer in manifest.of_type(ADAPTER))

    def _make_texts(self) -> dict[str, bytes]:
        """With Ollama's own template where the GGUF has none in Jinja."""
        self._check_adapters()
        texts = super()._make_texts()
        template = self.template()
        if template and TEMPLATE_FILE not in texts:
            texts |= {GO_TEMPLATE_FILE: template.encode()}
            if calls_as_json(template):
                config = json.loads(texts["tokenizer_config.json"])
                texts["tokenizer_config.json"] = json.dumps(
                    config | {"tool_parser_type": "json_tools"}
                ).encode()
        return texts

    def _check_adapters(self) -> None:
        if self._loras and self.model.architecture.encoder is not None:
            raise ModelNotSupported(
                f"{self.place} has an adapter, and is an encoder; models that write text may have one"
            )
        for path in self._loras:
            adapter = self._checked(lambda: GGUFAdapter.open(path))  # noqa: B023 - called at once
            self._checked(
                lambda: adapter.check_base(self.model.architecture, self.model.tensors, self.place)  # noqa: B023
            )

    def adapters(self) -> tuple[str, ...]:
        return tuple(f"LoRA ({path.stat().st_size:,} bytes)" for path in self._loras)

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        for layer in self.manifest.layers:
            self._file(layer)
        return replace(GGUFFiles.fetch(self, mode, progress), loras=tuple(map(LoraFile, self._loras)))
