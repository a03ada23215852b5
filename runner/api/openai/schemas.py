"""OpenAI's responses as types, for the responses themselves and the OpenAPI document. docs/clients.md lists the fields
beyond OpenAI's."""

import hashlib
from importlib.metadata import version
from typing import Literal

from msgspec import UNSET, Struct, UnsetType

from runner.api.logprobs import TokenLogprob
from runner.protocol.image import Base64
from runner.protocol.text import Logprob

# Changes whenever the same seed may give another text.
FINGERPRINT = (
    "fp_" + hashlib.sha256("".join(map(version, ("diptych", "mlx", "mlx-lm"))).encode()).hexdigest()[:10]
)
Kind = Literal["invalid_request_error", "server_error"]
Stop = Literal["stop", "length"]
Finish = Literal["stop", "length", "tool_calls"]


class Error(Struct, frozen=True):
    message: str
    type: Kind
    param: str | None
    code: str | None


class Failure(Struct, frozen=True):
    error: Error


ModelType = Literal["llm", "vlm", "embeddings", "reranker", "image"]


class Model(Struct, frozen=True):
    id: str
    created: int
    owned_by: str
    object: Literal["model"] = "model"
    # Ours: in Ollama's terms, and of picture models what has an effect on them. Types are LM Studio's, and the context has
    # the name that it has there, at vLLM and at OpenRouter.
    capabilities: tuple[str, ...] = ()
    type: ModelType = "llm"
    quantization: str | None = None
    context_length: int | UnsetType = UNSET
    max_context_length: int | UnsetType = UNSET
    max_model_len: int | UnsetType = UNSET
    supported_parameters: tuple[str, ...] | UnsetType = UNSET
    max_references: int | UnsetType = UNSET


class Models(Struct, frozen=True):
    data: list[Model]
    object: Literal["list"] = "list"


# -- what chat, completions and responses share


class Logprobs(Struct, frozen=True):
    content: list[TokenLogprob]
    refusal: None = None


class PromptDetails(Struct):
    cached_tokens: int = 0


class CompletionDetails(Struct):
    reasoning_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0

    def add(self, other: "CompletionDetails") -> None:
        self.reasoning_tokens += other.reasoning_tokens
        self.accepted_prediction_tokens += other.accepted_prediction_tokens
        self.rejected_prediction_tokens += other.rejected_prediction_tokens


class Usage(Struct):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptDetails
    completion_tokens_details: CompletionDetails


class CalledFunction(Struct, frozen=True):
    name: str
    arguments: str


class Call(Struct, frozen=True):
    id: str
    function: CalledFunction
    type: Literal["function"] = "function"


# -- chat


class CalledTool(Struct, frozen=True):
    """A custom tool."""

    name: str
    input: str


class AnyCall(Struct, frozen=True):
    """A call of a function, or of a custom tool."""

    id: str
    type: Literal["function", "custom"]
    function: CalledFunction | UnsetType = UNSET
    custom: CalledTool | UnsetType = UNSET


class Message(Struct, frozen=True):
    content: str | None
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnyCall] | UnsetType = UNSET
    role: Literal["assistant"] = "assistant"
    refusal: None = None


class Choice(Struct, frozen=True):
    index: int
    message: Message
    logprobs: Logprobs | None
    finish_reason: Finish


class ChatCompletion(Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[Choice]
    usage: Usage
    object: Literal["chat.completion"] = "chat.completion"
    system_fingerprint: str = FINGERPRINT
    warnings: list[str] | UnsetType = UNSET


class FunctionDelta(Struct, frozen=True):
    name: str | UnsetType = UNSET
    arguments: str | UnsetType = UNSET


class CallDelta(Struct, frozen=True):
    """Of a call, the first piece has an id and a name."""

    index: int
    function: FunctionDelta
    id: str | UnsetType = UNSET


class CustomDelta(Struct, frozen=True):
    name: str | UnsetType = UNSET
    input: str | UnsetType = UNSET


class AnyCallDelta(Struct, frozen=True):
    """A piece of a call, as a stream has it."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function", "custom"] | UnsetType = UNSET
    function: FunctionDelta | UnsetType = UNSET
    custom: CustomDelta | UnsetType = UNSET


class Delta(Struct, frozen=True):
    role: Literal["assistant"] | UnsetType = UNSET
    content: str | UnsetType = UNSET
    reasoning_content: str | UnsetType = UNSET
    tool_calls: list[AnyCallDelta] | UnsetType = UNSET


class ChunkChoice(Struct, frozen=True):
    index: int
    delta: Delta
    logprobs: Logprobs | None = None
    finish_reason: Finish | None = None


class ChatChunk(Struct, frozen=True):
    id: str
    created: int
    model: str
    choices: list[ChunkChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["chat.completion.chunk"] = "chat.completion.chunk"
    system_fingerprint: str = FINGERPRINT
    warnings: list[str] | UnsetType = UNSET


# -- completions


class LegacyLogprobs(Struct, frozen=True):
    """The first token of a prompt has no log probability: it follows nothing."""

    tokens: list[str]
    token_logprobs: list[float | None]
    top_logprobs: list[dict[str, float] | None]
    text_offset: list[int]

    def add(self, token: str, logprob: float | None, top: dict[str, float] | None, offset: int) -> None:
        self.tokens.append(token)
        self.token_logprobs.append(logprob)
        self.top_logprobs.append(top)
        self.text_offset.append(offset)

    def add_token(self, token: Logprob, most: int, offset: int) -> None:
        top = {other.token: other.logprob for other in token.top_logprobs[:most]}
        self.add(token.token, token.logprob, top, offset)


class PromptLogprob(Struct, frozen=True):
    """`rank`: among all tokens, where it is known."""

    logprob: float
    rank: int | None
    decoded_token: str


class TextChoice(Struct, frozen=True):
    index: int
    text: str
    logprobs: LegacyLogprobs | None
    finish_reason: Stop | None
    prompt_logprobs: list[dict[str, PromptLogprob] | None] | UnsetType = UNSET


class Completion(Struct, frozen=True):
    """Also a chunk of a stream, of which the last has the usage."""

    id: str
    created: int
    model: str
    choices: list[TextChoice]
    usage: Usage | UnsetType | None = UNSET
    object: Literal["text_completion"] = "text_completion"
    system_fingerprint: str = FINGERPRINT


# -- embeddings


class Embedding(Struct, frozen=True):
    index: int
    embedding: list[float] | str
    object: Literal["embedding"] = "embedding"


class EmbeddingsUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Embeddings(Struct, frozen=True):
    model: str
    data: list[Embedding]
    usage: EmbeddingsUsage
    object: Literal["list"] = "list"


# -- pictures


class Picture(Struct, frozen=True):
    b64_json: Base64 | UnsetType = UNSET
    url: str | UnsetType = UNSET


class PictureTokens(Struct, frozen=True):
    image_tokens: int
    text_tokens: int = 0


class PicturesUsage(Struct, frozen=True):
    input_tokens: int
    input_tokens_details: PictureTokens
    output_tokens: int
    total_tokens: int
    output_tokens_details: PictureTokens | UnsetType = UNSET


class Pictures(Struct, frozen=True):
    created: int
    data: list[Picture]
    output_format: str
    quality: str
    size: str
    usage: PicturesUsage
    seed: int
    warnings: list[str]
    seeds: list[int] | UnsetType = UNSET
    background: Literal["opaque"] = "opaque"


class PictureEvent(Struct, frozen=True):
    """An event of a stream: a partial picture with its index, or a finished one with usage and seed."""

    type: Literal[
        "image_generation.partial_image",
        "image_generation.completed",
        "image_edit.partial_image",
        "image_edit.completed",
    ]
    b64_json: Base64
    created_at: int
    size: str
    quality: str
    output_format: str
    background: Literal["opaque"] = "opaque"
    partial_image_index: int | UnsetType = UNSET
    usage: PicturesUsage | UnsetType = UNSET
    seed: int | UnsetType = UNSET
