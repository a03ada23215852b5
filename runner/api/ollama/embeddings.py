"""Ollama's /api/embed and the older /api/embeddings."""

from time import perf_counter_ns
from typing import Annotated, Any

from msgspec import Meta, Struct

from runner.api.lease import ask, leased
from runner.api.ollama.models import ModelCatalog
from runner.api.ollama.options import OllamaOptions, ResolvedOptions
from runner.api.vectors import cut
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.gateway.schemas import Vectors
from runner.protocol.duration import Duration
from runner.protocol.text import EmbeddingRequest, parse_body
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


async def embed(gateway: Gateway, catalog: ModelCatalog, body: bytes, id: str) -> dict[str, Any]:
    request = parse_body(EmbedRequest, body)
    texts = [request.input] if isinstance(request.input, str) else request.input
    truncate = request.truncate is not False
    answer = await _vectors(gateway, catalog, request, texts if request.input else [], truncate, id)
    return answer | {"embeddings": [cut(vector, request.dimensions) for vector in answer["embeddings"]]}


async def embeddings(gateway: Gateway, catalog: ModelCatalog, body: bytes, id: str) -> dict[str, Any]:
    request = parse_body(EmbeddingsRequest, body)
    texts = [request.prompt] if request.prompt else []
    answer = await _vectors(gateway, catalog, request, texts, True, id)
    return {"embedding": answer["embeddings"][0] if answer["embeddings"] else []}


async def _vectors(
    gateway: Gateway,
    catalog: ModelCatalog,
    request: EmbedRequest | EmbeddingsRequest,
    texts: list[str],
    truncate: bool,
    id: str,
) -> dict[str, Any]:
    """Without a text the model is only loaded. Texts that are too long are cut, unless the request forbids it."""
    began = perf_counter_ns()
    options = ResolvedOptions(request.options)
    keep_alive = keep_alive_seconds(request.keep_alive)
    name, _ = await catalog.resolve(request.model)
    async with leased(gateway, name, ModelMode.TEXT, keep_alive, id) as lease:
        loaded = perf_counter_ns()
        options.warn_of_context(lease.server.context_length)
        answer = Vectors([], 0)
        if texts:
            answer = await ask(
                lease, "/embedding", EmbeddingRequest(texts, truncate, options.context), Vectors
            )
    return {
        "model": request.model,
        "embeddings": answer.embeddings,
        "total_duration": perf_counter_ns() - began,
        "load_duration": loaded - began,
        "prompt_eval_count": answer.prompt_eval_count,
        **({"warnings": options.warnings} if options.warnings else {}),
    }
