"""The prompts of a completion: texts, token ids, or both mixed; as text, and with their tokens' log probabilities."""

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated

from msgspec import Meta

from runner.api.lease import ask
from runner.errors import BadRequest
from runner.gateway.lease import Lease
from runner.gateway.schemas import Content, Tokens
from runner.http import rules
from runner.protocol.text import DetokenizeRequest, TokenizeRequest

Input = str | list[str | int | list[int]]
PromptInput = str | list[str | int | list[int | str]]
EnginePrompt = str | list[int | str]


# All of one kind, and not empty.
INPUT_RULE = rules.either(
    {"type": "string"},
    *({"type": "array", "minItems": 1, "items": {"type": kind}} for kind in ("string", "integer")),
    {"type": "array", "minItems": 1, "items": {"type": "array"}},
)
TextInput = Annotated[Input, Meta(extra_json_schema={"allOf": [INPUT_RULE]})]
PROMPT_RULE = rules.either(
    {"type": "string"},
    *(
        {"type": "array", "minItems": 1, "items": {"type": kinds}}
        for kinds in (["string", "integer"], ["string", "array"])
    ),
)
Prompt = Annotated[PromptInput, Meta(extra_json_schema={"allOf": [PROMPT_RULE]})]


def inputs(value: Input, name: str) -> list[str | list[int]]:
    """A string, token ids, or a list of either, as a list of them."""
    if isinstance(value, str):
        return [value]
    numbers = [item for item in value if isinstance(item, int)]
    if numbers and len(numbers) == len(value):
        return [numbers]
    texts = [item for item in value if not isinstance(item, int)]
    if not texts or numbers:
        raise BadRequest(f"{name}: it must be text, a list of token ids, or a list of either, and not empty")
    return texts


def prompts(value: PromptInput) -> list[EnginePrompt]:
    """One prompt or several. A list with token ids is one prompt, whose texts stand between them."""
    if isinstance(value, str):
        return [value]
    if any(isinstance(item, int) for item in value):
        parts = [item for item in value if not isinstance(item, list)]
        if len(parts) < len(value):
            raise BadRequest(
                "prompt: token ids beside lists are not allowed; a list of lists is several prompts"
            )
        return [list(parts)]
    if not value:
        raise BadRequest("prompt: it is empty; text, token ids, or a list of prompts is needed")
    return [item for item in value if not isinstance(item, int)]


async def texts(lease: Lease, prompts: Sequence[str | Sequence[int | str]]) -> list[str]:
    return [prompt if isinstance(prompt, str) else await _text(lease, prompt) for prompt in prompts]


async def _text(lease: Lease, prompt: Sequence[int | str]) -> str:
    text = ""
    for is_text, parts in groupby(prompt, lambda part: isinstance(part, str)):
        if is_text:
            text += "".join(map(str, parts))
        else:
            ids = [part for part in parts if isinstance(part, int)]
            text += (await ask(lease, "/detokenize", DetokenizeRequest(ids), Content)).content
    return text


async def check_lengths(lease: Lease, prompts: Sequence[EnginePrompt]) -> None:
    """Reject a prompt whose length the runner would reject, possibly after the stream of another prompt has begun."""
    context = lease.server.context_length
    for index, prompt in enumerate(prompts):
        count = 0
        for part in [prompt] if isinstance(prompt, str) else prompt:
            if isinstance(part, str):
                count += len((await ask(lease, "/tokenize", TokenizeRequest(part), Tokens)).tokens)
            else:
                count += 1
        if count >= context:
            raise BadRequest(
                f"prompt[{index}]: its {count} tokens do not fit into the context of {context} tokens with room for "
                "an answer"
            )
