"""/v1/embeddings: texts as vectors, as numbers or as base64 of float32."""

import base64
import struct
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from runner.api.lease import ask, leased
from runner.api.openai.completions import Given, inputs, texts
from runner.api.openai.schemas import Embedding, Embeddings, EmbeddingsUsage
from runner.api.vectors import cut
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.protocol.duration import Duration
from runner.protocol.text import parse
from runner.sources import ModelMode


class EmbeddingsRequest(Struct, frozen=True):
    model: Annotated[str, Meta(min_length=1)]
    input: Given
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    user: str | None = None
    keep_alive: Duration | None = None


async def embeddings(gateway: Gateway, body: dict[str, Any], id: str) -> Embeddings:
    asked = parse(EmbeddingsRequest, body)
    given = inputs(asked.input, "input")
    async with leased(
        gateway, asked.model, ModelMode.TEXT, keep_alive_seconds(asked.keep_alive), id
    ) as lease:
        content = await texts(lease, given)
        found = await ask(lease, "/embedding", {"content": content})
    vectors = [cut(vector, asked.dimensions) for vector in found["embeddings"]]
    tokens = int(found["prompt_eval_count"])
    data = [Embedding(index, _written(vector, asked.encoding_format)) for index, vector in enumerate(vectors)]
    return Embeddings(asked.model, data, EmbeddingsUsage(tokens, tokens))


def _written(vector: list[float], format: str | None) -> list[float] | str:
    if format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
