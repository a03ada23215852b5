"""/v1/models: the models on this machine, with what clients read of them."""

from collections.abc import Mapping

from msgspec import UNSET, Struct

from runner.api.lease import names
from runner.api.openai.schemas import Model, ModelType
from runner.library import Installed, installed
from runner.library.facts import capabilities, context_length, picture_fields, quantization
from runner.sources import ModelMode


class ModelsQuery(Struct, frozen=True):
    """Only models of this type, or with this capability."""

    type: ModelType | None = None
    capability: str | None = None

    def takes(self, model: Model) -> bool:
        return self.type in (None, model.type) and (self.capability or "") in ("", *model.capabilities)


def list_models(aliases: Mapping[str, str]) -> list[Model]:
    """The models that can be run, by every name that a client may use."""
    usable = [model for model in installed(aliases).models if model.fault is None]
    return [openai_model(model, name) for model in usable for name in names(model)]


def openai_model(model: Installed, name: str) -> Model:
    owner, slash, _ = model.name.partition("/")
    length = context_length(model) or UNSET
    return Model(
        name,
        int(model.modified),
        owner if slash and model.source != "folder" else model.source,
        capabilities=capabilities(model),
        type=_type(model),
        quantization=quantization(model) or None,
        context_length=length,
        max_context_length=length,
        max_model_len=length,
        **picture_fields(model),
    )


def _type(model: Installed) -> ModelType:
    if model.mode is ModelMode.IMAGE:
        return "image"
    known = capabilities(model)
    if "rerank" in known:
        return "reranker"
    if "completion" not in known:
        return "embeddings"
    return "vlm" if "vision" in known else "llm"
