"""Models in the format of Ollama's API: the installed ones, the details of one, the loaded ones."""

import asyncio
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, TypeVar, cast

from runner.api.lease import names
from runner.errors import ModelNotFound
from runner.gateway.app import Gateway
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.resolver import ResolvedModel
from runner.inspect.capabilities import chat_template, text_capabilities
from runner.library import Installed, installed, lookup
from runner.library.facts import capabilities, detected, files_of, picture_fields, quantization
from runner.library.installed import described
from runner.sources import ModelFiles, ModelMode, find
from runner.sources.base import shorten
from runner.sources.gguf import GGUFFiles
from runner.sources.name import LATEST, ModelName
from runner.sources.ollama_model import OllamaModel

T = TypeVar("T")

# Clients expect a date even for a model that stays loaded.
FOR_GOOD = timedelta(days=36500)
# Keys of config.json, and the GGUF keys they correspond to.
NUMBERS = {
    "num_hidden_layers": "block_count",
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "vocab_size": "vocab_size",
}


@dataclass(frozen=True)
class ModelfileDefaults:
    """The options and the system message from the Modelfile of a model in the Ollama store."""

    name: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    system: str = ""
    license: str = ""
    messages: list[dict[str, str]] = field(default_factory=list)
    template: str = ""


class ModelCatalog:
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._names: dict[str, str] = {}  # the gateway's name for each name that clients have used
        self._facts: dict[tuple[str, Callable[..., Any]], tuple[ResolvedModel, Any]] = {}

    async def resolve(self, name: str) -> tuple[str, ResolvedModel]:
        """The gateway's name of a model, and the model. Ollama's clients often append `:latest`, and look for the words
        "not found" in errors. A loaded model is not looked up again."""
        pool = self._gateway.pool
        if (alias := self._names.get(name)) is not None and (loaded := pool.loaded_as(alias)) is not None:
            return alias, loaded
        bare, aliases = name.removesuffix(LATEST), self._gateway.resolver.aliases
        reasons = []
        for candidate in [bare] if bare in aliases and name not in aliases else dict.fromkeys((name, bare)):
            try:
                model = await pool.resolve(candidate)
            except ModelNotFound as error:
                reasons.append(error.message)
            else:
                self._names = {one: other for one, other in self._names.items() if pool.loaded_as(other)}
                self._names[name] = candidate
                return candidate, model
        raise ModelNotFound(f"model {shorten(name)} not found: {reasons[-1]}")

    async def find(self, name: str) -> Installed:
        """A model on this machine."""
        return await asyncio.to_thread(self._find, name)

    def _find(self, name: str) -> Installed:
        models = installed(self._gateway.resolver.aliases).models
        for candidate in (name, name.removesuffix(LATEST)):
            for model in models:
                if candidate in model.aliases:
                    return model
            model_here = lookup(
                {model.name: model for model in models if model.source != "folder"}, candidate
            )
            if model_here is not None:
                return model_here
        raise ModelNotFound(f"model {shorten(name)} not found; GET /api/tags lists those on this machine")

    async def defaults(self, model: ResolvedModel) -> ModelfileDefaults:
        """The options and the system message from the model's Modelfile."""
        if ModelName.parse(model.argument).source != "ollama":
            return ModelfileDefaults()
        return await self._read(model, _defaults)

    async def thinks(self, model: ResolvedModel) -> bool:
        return "thinking" in await self._read(model, text_capabilities)

    async def _read(self, model: ResolvedModel, read: Callable[[ModelFiles], T]) -> T:
        """The result of `read` for a model's files, cached while the model stays loaded."""
        source, value = self._facts.get((model.argument, read), (None, None))
        if source is not model:
            value = await asyncio.to_thread(lambda: read(find(model.argument)))
            self._facts[model.argument, read] = model, value
        return cast(T, value)

    # -- responses of the endpoints

    async def tags(self) -> dict[str, Any]:
        return await asyncio.to_thread(self._tags)

    def _tags(self) -> dict[str, Any]:
        models = installed(self._gateway.resolver.aliases).models
        usable = [model for model in models if model.fault is None]
        usable.sort(
            key=lambda model: model.modified, reverse=True
        )  # in Ollama's order: some clients use the first
        return {"models": [_entry(model, name) for model in usable for name in names(model)]}

    async def show(self, name: str) -> dict[str, Any]:
        """A model by any name that a chat takes, also if it is not on this machine yet."""
        try:
            model = await self.find(name)
        except ModelNotFound:
            _, resolved = await self.resolve(name)
            model = await asyncio.to_thread(_elsewhere, resolved)
        return await asyncio.to_thread(describe, model, name)

    async def loaded(self) -> dict[str, Any]:
        ready = [loaded for loaded in self._gateway.pool.loaded if loaded.phase is Phase.READY]
        library = await asyncio.to_thread(installed, self._gateway.resolver.aliases)
        models = {model.name: model for model in library.models}
        entries = await asyncio.to_thread(
            lambda: [_loaded_entry(loaded, models.get(loaded.model.name)) for loaded in ready]
        )
        expiries = [expires(loaded) for loaded in ready]
        return {"models": [entry | {"expires_at": at} for entry, at in zip(entries, expiries, strict=True)]}


def _elsewhere(resolved: ResolvedModel) -> Installed:
    """A model that is in none of the lists: of the hub, or a folder that was named at the start."""
    files, name = find(resolved.argument), ModelName.parse(resolved.argument)
    assert name.source is not None, "the argument of a model has a prefix"
    size = sum(files.listing().values())
    return described(Installed(str(name), name.source, size, 0.0), files)


def _loaded_entry(loaded: LoadedModel, model: Installed | None) -> dict[str, Any]:
    model_names = (names(model) if model else ()) or (loaded.model.name,)
    entry = _entry(model, model_names[0]) if model else {"name": model_names[0], "model": model_names[0]}
    sizes = {"size": loaded.held, "size_vram": loaded.held}
    return entry | sizes | {"context_length": loaded.backend.context_length or 0}


def expires(loaded: LoadedModel) -> str:
    """When the model will be unloaded if no request arrives; while it is in use, counted from now."""
    left = loaded.expires
    if left is None and loaded.keep_alive >= 0:
        left = loaded.keep_alive
    later = FOR_GOOD if left is None else min(FOR_GOOD, timedelta(seconds=min(left, 1e9)))
    return (datetime.now(UTC) + later).isoformat()


def _entry(model: Installed, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "model": name,
        "modified_at": modified(model),
        "size": model.bytes,
        "digest": digest(model),
        "details": details(model),
    }


def digest(model: Installed) -> str:
    """64 hex digits that change when the model does. Ollama's manifests have such a digest; for a commit it is derived
    from the commit id, and for a folder from its contents."""
    if model.source == "hub":
        return hub_digest(model.name, model.digest)
    return model.digest or _folder_digest(model)


def hub_digest(name: str, commit: str) -> str:
    return _hash([ModelName.parse(name).text, commit])


@lru_cache(256)
def _folder_digest(model: Installed) -> str:
    files = sorted(files_of(model).listing().items())
    return _hash([model.name, str(model.modified), *(f"{path} {size}" for path, size in files)])


def _hash(parts: list[str]) -> str:
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogateescape")).hexdigest()


def modified(model: Installed) -> str:
    return datetime.fromtimestamp(model.modified, UTC).isoformat()


def _defaults(files: ModelFiles) -> ModelfileDefaults:
    if not isinstance(files, OllamaModel):
        return ModelfileDefaults()
    return ModelfileDefaults(
        files.name,
        files.parameters(),
        files.system(),
        files.license(),
        files.messages(),
        files.template(),
    )


def describe(model: Installed, name: str) -> dict[str, Any]:
    files = files_of(model)
    text = model.mode is ModelMode.TEXT
    defaults = _defaults(files)
    warnings = {"warnings": [f"{name} cannot be run: {model.fault}"]} if model.fault else {}
    return {
        "modelfile": "".join((f"FROM {name}\n", *(f"# with a {adapter}\n" for adapter in files.adapters()))),
        "parameters": "\n".join(_parameter(*one) for one in defaults.options.items()),
        "system": defaults.system,
        "license": defaults.license,
        "template": chat_template(files) if text else "",
        "details": details(model),
        "model_info": _numbers(model, files, name),
        "capabilities": capabilities(model),
        **picture_fields(model),
        "modified_at": modified(model),
        **warnings,
    }


def _parameter(name: str, value: Any) -> str:
    """In Ollama's format: one per line; each item of a list has a line of its own."""
    return "\n".join(
        f"{name:<30} {json.dumps(one)}" for one in (value if isinstance(value, list) else [value])
    )


def details(model: Installed) -> dict[str, Any]:
    detection, files = detected(model), files_of(model)
    gguf = files.model if isinstance(files, GGUFFiles) else None
    return {
        "parent_model": "",
        "format": "gguf" if gguf else "safetensors",
        "family": model.type,
        "families": [model.type],
        "parameter_size": parameters(detection.parameters),
        "quantization_level": quantization(model),
    }


def parameters(count: int | None) -> str:
    """In Ollama's format: 8.0B, 560.5M."""
    for size, unit in ((10**9, "B"), (10**6, "M"), (10**3, "K")):
        if count is not None and count >= size:
            return f"{count / size:.1f}{unit}"
    return "" if count is None else str(count)


def _numbers(model: Installed, files: ModelFiles, name: str) -> dict[str, Any]:
    detection = detected(model)
    info: dict[str, Any] = {
        "general.architecture": model.type,
        "general.basename": name,  # shown by VS Code
        "general.parameter_count": detection.parameters,
    }
    if model.mode is ModelMode.TEXT:
        config = files.read_json("config.json") or {}
        config = config["text_config"] if isinstance(config.get("text_config"), dict) else config
        info[f"{model.type}.context_length"] = detection.context_length
        info |= {f"{model.type}.{ours}": config.get(theirs) for theirs, ours in NUMBERS.items()}
    # Clients expect a number if the key is present.
    return {name: value for name, value in info.items() if value is not None}
