"""Ollama's /api/embed and the older /api/embeddings."""

from time import perf_counter_ns
from typing import Annotated, Any

from msgspec import Meta, Struct

from runner.api.lease import ask, leased
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.options import Chosen, OllamaOptions
from runner.api.vectors import cut
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.duration import Duration
from runner.protocol.text import parse
from runner.sources import ModelMode


class EmbedRequest(Struct, frozen=True):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[str] = ""
    truncate: bool | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    options: OllamaOptions | None = None
    keep_alive: Duration | None = None


class EmbeddingsRequest(Struct, frozen=True):
    model: Annotated[str, Meta(min_length=1)]
    prompt: str = ""
    options: OllamaOptions | None = None
    keep_alive: Duration | None = None


async def embed(gateway: Gateway, catalog: ModelCatalog, body: dict[str, Any], id: str) -> dict[str, Any]:
    asked = parse(EmbedRequest, body)
    texts = [asked.input] if isinstance(asked.input, str) else asked.input
    found = await _vectors(gateway, catalog, asked, texts if asked.input else [], asked.truncate, id)
    return found | {"embeddings": [cut(vector, asked.dimensions) for vector in found["embeddings"]]}


async def embeddings(
    gateway: Gateway, catalog: ModelCatalog, body: dict[str, Any], id: str
) -> dict[str, Any]:
    asked = parse(EmbeddingsRequest, body)
    found = await _vectors(gateway, catalog, asked, [asked.prompt] if asked.prompt else [], None, id)
    return {"embedding": found["embeddings"][0] if found["embeddings"] else []}


async def _vectors(
    gateway: Gateway,
    catalog: ModelCatalog,
    asked: EmbedRequest | EmbeddingsRequest,
    texts: list[str],
    truncate: bool | None,
    id: str,
) -> dict[str, Any]:
    """Without a text the model is only loaded. What is too long is cut, unless that is forbidden."""
    began = perf_counter_ns()
    options = Chosen(asked.options)
    keep_alive = keep_alive_seconds(asked.keep_alive)
    name, _ = await catalog.resolve(asked.model)
    async with leased(gateway, name, ModelMode.TEXT, keep_alive, id) as lease:
        loaded = perf_counter_ns()
        options.warn_of_context(lease.server.context_length)
        empty: dict[str, Any] = {"embeddings": [], "prompt_eval_count": 0}
        wanted = {"content": texts, "truncate": truncate is not False, "num_ctx": options.context}
        found = await ask(lease, "/embedding", wanted) if texts else empty
    return {
        "model": asked.model,
        "embeddings": found["embeddings"],
        "total_duration": perf_counter_ns() - began,
        "load_duration": loaded - began,
        "prompt_eval_count": int(found["prompt_eval_count"]),
        **({"warnings": options.warnings} if options.warnings else {}),
    }
