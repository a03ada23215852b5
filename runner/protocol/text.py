"""The wire contract's shapes: requests and events as types, JSON on the way in and out.

Types hold the limits; `parse` turns what breaks them into a BadRequest that names the field, its value and what is
allowed. Unknown fields are ignored, so that clients made for other versions go on working.
"""

import json
from collections.abc import Iterable
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct, field

from pipelines.limits import MOST_REFERENCES
from runner.errors import BadRequest
from runner.protocol.speculate import Speculate
from runner.protocol.validation import check_finite, convert, explained, kind_of

T = TypeVar("T")

Count = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Limit = Annotated[int, Meta(ge=-1, le=2**31 - 1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Penalty = Annotated[float, Meta(ge=-100, le=100)]
Priority = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
MAX_SEED = 2**64 - 1


Prompt = str | list[TokenId | str]  # in a list, token ids and texts may alternate


class Options(Struct, frozen=True, omit_defaults=True):
    """How tokens are chosen, by default the most likely ones up to the end of the context, and when."""

    num_predict: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    max_tokens: Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)] | None = None
    num_keep: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 4  # tokens at the beginning that stay; below 0: all
    num_ctx: Limit | None = None  # how much of the model's context may be used; 0 or -1: all of it
    temperature: Annotated[float, Meta(ge=0, le=100)] = 0.0
    top_p: Share = 1.0
    top_k: Limit = 0  # 0 or -1: no limit
    min_p: Share = 0.0
    repeat_last_n: Annotated[int, Meta(ge=-1, le=2**31 - 1)] = 64
    repeat_penalty: Annotated[float, Meta(gt=0, le=100)] = 1.0
    presence_penalty: Penalty = 0.0
    frequency_penalty: Penalty = 0.0
    seed: int | None = None
    stop: list[str] | str = field(default_factory=list)
    logit_bias: dict[str, Annotated[float, Meta(ge=-100, le=100)]] = field(default_factory=dict)
    ignore_eos: bool = False  # go on to the limit of tokens
    priority: Priority = 0  # among requests that wait; lower ones begin earlier
    speculate: Speculate = None


Detail = Literal["auto", "low", "high"]


class Part(Struct, frozen=True, omit_defaults=True):
    """A part of a message: text, or the place of the next of its `images`."""

    type: Literal["text", "image"]
    text: str | None = None
    detail: Detail = "auto"  # how closely a picture is looked at


class Message(Struct, frozen=True, omit_defaults=True):
    """One turn of a chat, as chat templates know it. `images`: pictures in base64. They stand where the content has parts of
    type image, or else before its text."""

    role: Annotated[str, Meta(min_length=1, max_length=64)]
    content: str | list[Part] | None = None
    images: Annotated[list[str], Meta(max_length=MOST_REFERENCES)] | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None
    name: str | None = None
    thinking: str | None = None
    reasoning_content: str | None = None


def content_parts(message: Message) -> list[Part]:
    """Text and places of pictures in their order."""
    content = message.content
    parts = [Part("text", content)] if isinstance(content, str) else list(content or [])
    if message.images and not any(part.type == "image" for part in parts):
        return [Part("image")] * len(message.images) + parts
    return parts


class Grammar(Struct, frozen=True):
    """What an answer must match, from its first character to its last: a grammar in Lark's notation, as llguidance reads it,
    or in llama.cpp's, both as `lark`; or a regular expression."""

    syntax: Literal["lark", "regex"]
    definition: Annotated[str, Meta(min_length=1, max_length=128 * 1024)]


class InfillFile(Struct, frozen=True, omit_defaults=True):
    """Another file of the same project, which a middle may use."""

    text: str
    filename: str = ""


LEFT_OUT = "tokens around the middle were left out"  # in the warning of a prompt that was cut


class Infill(Struct, frozen=True, omit_defaults=True):
    """The prompt is what comes before; what is written leads from it to the `suffix`. `begun`: how it begins. `rendered`: the
    prompt has all of this, by a template; what ends a middle ends the text."""

    suffix: str = ""
    begun: str = ""
    files: list[InfillFile] = field(default_factory=list)
    rendered: bool = False


class TextRequest(Struct, frozen=True, omit_defaults=True):
    """POST /completion in text mode."""

    prompt: Prompt | None = None
    infill: Infill | None = None
    messages: list[Message] | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: Literal["auto", "required"] | None = None
    # Whether an assistant's message at the end is continued; None: yes, if there is one.
    continue_final_message: bool | None = None
    think: bool | None = None
    thinking_budget: Count | None = None  # tokens of thoughts, after which they are closed
    # What the answer is likely to repeat, word for word: tokens are drafted from it.
    prediction: str | None = None
    split: bool = False  # thoughts and tool calls apart from the content
    call_deltas: bool = False  # calls while they are written, in place of whole ones
    # Leave out the oldest messages if all do not fit into the context, and if that is not enough, tokens behind num_keep.
    truncate: bool = False
    # Tokens that precede the prompt: of an earlier text. If it is given, the last event has the tokens that were read.
    context: list[TokenId] | None = None
    options: Options = field(default_factory=Options)
    # What the answer is held to, at most one of these: a JSON schema, a grammar, or one of several texts.
    format: Literal["json", ""] | dict[str, Any] | bool | None = None
    grammar: Grammar | None = None
    choice: Annotated[list[str], Meta(min_length=1)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0
    stream: bool = True


class TokenizeRequest(Struct, frozen=True):
    content: str


class DetokenizeRequest(Struct, frozen=True):
    tokens: list[TokenId]


class ScoreRequest(Struct, frozen=True):
    """For the log probabilities of a prompt's own tokens."""

    prompt: Prompt
    top_logprobs: Annotated[int, Meta(ge=0, le=20)] = 0


class EmbeddingRequest(Struct, frozen=True):
    """`truncate`: a text that exceeds the context (or `num_ctx` of it) is cut, not refused. `prompt_name`: of the
    checkpoint's prompts; `input_type`: the same as other servers' clients spell it."""

    content: str | list[str]
    truncate: bool = False
    num_ctx: Limit | None = None
    prompt_name: str | None = None
    input_type: str | None = None


class CancelRequest(Struct, frozen=True):
    id: Annotated[str, Meta(min_length=1, max_length=200)]


class LogprobAlternative(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    id: int


class Logprob(Struct, frozen=True):
    token: str
    logprob: float
    bytes: list[int]
    id: int
    top_logprobs: list[LogprobAlternative]


class CallDelta(Struct, frozen=True, omit_defaults=True):
    """A piece of a tool call. The first has its name; `arguments` is JSON that the pieces add up to, unless it was cut."""

    index: int
    name: str = ""
    arguments: str = ""


class TextChunk(Struct, frozen=True, omit_defaults=True):
    """One token. `content` holds whole characters only, and is empty while there are none to send."""

    content: str
    token: int
    logprobs: list[Logprob] | None = None
    thinking: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)
    call_deltas: list[CallDelta] = field(default_factory=list)


class TextDone(Struct, frozen=True):
    """The last event of a text. Durations are nanoseconds."""

    done_reason: Literal[0, 1]
    stop_reason: Literal["stop", "length"]
    prompt_eval_count: int
    prompt_eval_duration: int
    eval_count: int
    eval_duration: int
    cached: int
    content: str | msgspec.UnsetType = msgspec.UNSET  # what was still held back when the text ended
    thinking: str | msgspec.UnsetType = msgspec.UNSET
    tool_calls: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    call_deltas: list[CallDelta] | msgspec.UnsetType = msgspec.UNSET
    warnings: list[str] | msgspec.UnsetType = msgspec.UNSET
    stop_string: str | msgspec.UnsetType = msgspec.UNSET  # the one that ended the text
    prompt_tokens: list[int] | msgspec.UnsetType = (
        msgspec.UNSET
    )  # what was read, if the request has a context
    drafted: int = 0  # tokens of the answer that were drafted ahead of the model
    accepted: int = 0  # of these, the ones that the model chose as well
    done: Literal[True] = True


class TextWhole(TextDone, frozen=True, kw_only=True):
    """A text without a stream: the content of all its events."""

    content: str
    tokens: list[int]
    logprobs: list[Logprob] | msgspec.UnsetType = msgspec.UNSET


class RenderedPrompt(Struct, frozen=True):
    """A prompt as the model reads it, and how many tokens that is."""

    prompt: str
    tokens: int


class ScoreDone(Struct, frozen=True):
    """Of every token but the first, which follows nothing."""

    tokens: list[int]
    first: str  # the text of the first token
    logprobs: list[Logprob]
    done: Literal[True] = True


class EmbeddingDone(Struct, frozen=True):
    embeddings: list[list[float]]
    prompt_eval_count: int
    done: Literal[True] = True


class Failed(Struct, frozen=True):
    """The last event of a request that failed after its first event."""

    error: str
    done: Literal[True] = True


_encoder = msgspec.json.Encoder()


def line(event: Struct) -> bytes:
    """One event as one line of JSON."""
    return _encoder.encode(event) + b"\n"


def lines(events: Iterable[Struct]) -> bytearray:
    """Several events, each written where it stays: they may be megabytes."""
    written = bytearray()
    for event in events:
        _encoder.encode_into(event, written, -1)  # behind what is there
        written += b"\n"
    return written


def encode(value: Any) -> bytes:
    return _encoder.encode(value)


def read_json(body: bytes) -> dict[str, Any]:
    """A request's body as an object."""
    try:
        value = _decode(body)
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise BadRequest(f"the body is not JSON: {error}") from None
    if not isinstance(value, dict):
        raise BadRequest(f"the body is {kind_of(value)}; a JSON object is needed")
    return value


def _decode(body: bytes) -> Any:
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # Python's own parser accepts NaN, Infinity and 1e999, so that the error can name their field. It is used only
        # where there are any: it is slower, and the message above is better.
        if b"NaN" not in body and b"Infinity" not in body and "out of range" not in str(error):
            raise ValueError(str(error)) from None
        value = json.loads(body)
        json.dumps(
            value, ensure_ascii=False
        ).encode()  # it also takes half a surrogate pair, which is no text
        return value


def parse(kind: type[T], value: dict[str, Any], strict: bool = True) -> T:
    """A request of this type, or a BadRequest that names the field, its value and what is allowed.

    Not strict: numbers may be written as text, as in forms.
    """
    try:
        check_finite(value)
        request = convert(kind, value, strict)
        if not strict:
            check_finite(msgspec.to_builtins(request))  # text may say "nan"
        return request
    except msgspec.ValidationError as error:
        raise BadRequest(explained(str(error), value, kind)) from None
    except RecursionError:
        raise BadRequest("the body is nested too deeply") from None


def parse_body(kind: type[T], body: bytes) -> T:
    """A request of this type, read in one pass. Only what breaks a rule is read again, for the error's sake."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return parse(kind, read_json(body))


OPTION_NAMES = frozenset(Options.__struct_fields__)


def stop_strings(options: Options) -> list[str]:
    return [options.stop] if isinstance(options.stop, str) else options.stop
