"""/v1/embeddings: texts as vectors, as numbers or as base64 of float32."""

import base64
import struct
from typing import Annotated, Literal

from msgspec import Meta, Struct

from runner.api.lease import ask, leased
from runner.api.openai.completion_prompts import TextInput, inputs, texts
from runner.api.openai.schemas import Embedding, Embeddings, EmbeddingsUsage
from runner.api.vectors import cut
from runner.gateway.app import Gateway
from runner.gateway.proxy import keep_alive_seconds
from runner.gateway.schemas import Vectors
from runner.protocol.duration import Duration
from runner.protocol.text import EmbeddingRequest, parse_body
from runner.sources import ModelMode


class EmbeddingsRequest(Struct, frozen=True):
    model: Annotated[str, Meta(min_length=1)]
    input: TextInput
    encoding_format: Literal["float", "base64"] | None = None
    dimensions: Annotated[int, Meta(ge=1)] | None = None
    truncate: bool = False  # cut texts that are too long; OpenAI's API has no such field
    prompt_name: str | None = None  # of the model's own prompts, as sentence-transformers has them
    input_type: str | None = None  # the same, as Cohere's and Voyage's clients spell it
    user: str | None = None
    keep_alive: Duration | None = None


async def embeddings(gateway: Gateway, body: bytes, id: str) -> Embeddings:
    request = parse_body(EmbeddingsRequest, body)
    prompts = inputs(request.input, "input")
    async with leased(
        gateway, request.model, ModelMode.TEXT, keep_alive_seconds(request.keep_alive), id
    ) as lease:
        content = await texts(lease, prompts)
        wanted = EmbeddingRequest(
            content, request.truncate, prompt_name=request.prompt_name, input_type=request.input_type
        )
        answer = await ask(lease, "/embedding", wanted, Vectors)
    vectors = [cut(vector, request.dimensions) for vector in answer.embeddings]
    data = [
        Embedding(index, _written(vector, request.encoding_format)) for index, vector in enumerate(vectors)
    ]
    return Embeddings(
        request.model, data, EmbeddingsUsage(answer.prompt_eval_count, answer.prompt_eval_count)
    )


def _written(vector: list[float], format: str | None) -> list[float] | str:
    if format != "base64":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
