"""Ollama's options as native ones: its defaults, what is only a hint, and what is not to be had."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from runner.errors import BadRequest, ModelNotSupported
from runner.protocol.text import Options, parse

# What the documentation of its Modelfile states. The penalty was 1.1 until August 2026; 1 is none.
DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
SAME = (*DEFAULTS, "num_predict", "num_ctx", "seed", "stop")
# How a server works, and not what it answers; clients send them as a matter of course. Taken, and named among the
# warnings. A context that never moves on keeps everything, and Mirostat's numbers mean nothing without it.
HINTS = (
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "use_mmap", "use_mlock", "num_thread",
    "num_gqa", "num_keep", "draft_num_predict", "mirostat_tau", "mirostat_eta",
)  # fmt: skip
# What would change the answer; the value that changes nothing is taken.
ABSENT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "typical_p": (lambda value: value in (0, 1), "typical sampling is not supported; 1 (off) is"),
    "tfs_z": (lambda value: value in (0, 1), "tail free sampling is not supported; 1 (off) is"),
    "mirostat": (lambda value: value == 0, "Mirostat is not supported; 0 (off) is"),
    "penalize_newline": (
        lambda value: value is True,
        "line breaks are penalized as all else; true is allowed",
    ),
    "vocab_only": (lambda value: value is False, "models are loaded whole; false is allowed"),
    "logits_all": (lambda value: value is False, "logits are not answered; logprobs are"),
    "embedding_only": (lambda value: value is False, "models are loaded whole; false is allowed"),
}


# What the document says of each: our own as the native contract has them, hints as they come.
_OWN: dict[str, Any] = msgspec.json.schema(Options)["$defs"]["Options"]["properties"]
OllamaOptions = Annotated[
    dict[str, Any],
    Meta(
        extra_json_schema={
            "properties": {name: {"anyOf": [_OWN[name], {"type": "null"}]} for name in SAME}
            | dict.fromkeys(HINTS, True)
            | {
                name: {"enum": [None, *(value for value in (0, 1, True, False) if allowed(value))]}
                for name, (allowed, _) in ABSENT.items()
            },
            "additionalProperties": False,
        }
    ),
]


class Chosen:
    """A request's options, read. `native` goes to the runner; `warnings` go into the last line."""

    def __init__(self, given: dict[str, Any] | None) -> None:
        stated = {name: value for name, value in (given or {}).items() if value is not None}
        for name, value in stated.items():
            _check(name, value)
        own = {name: value for name, value in stated.items() if name in SAME}
        self.warnings = [f"options.{name} changes nothing here" for name in stated if name in HINTS]
        # Where others' frequency_penalty of 0 ends up, by way of LiteLLM.
        if own.get("repeat_penalty") == 0:
            own["repeat_penalty"] = 1.0
            self.warnings.append("options.repeat_penalty: 0 is taken as 1, no penalty")
        parse(_Checked, {"options": own})
        self._own = own
        self.native: dict[str, Any] = {**DEFAULTS, **own}
        self.seed: int | None = own.get("seed")
        self.context: int | None = own.get("num_ctx")
        self.named = frozenset(own)

    def put_over(self, stated: dict[str, Any], name: str) -> None:
        """What the request leaves open is as the model's maker stated it, and else as Ollama has it."""
        theirs = {option: value for option, value in stated.items() if option in SAME}
        try:
            parse(_Checked, {"options": theirs})
        except BadRequest as error:
            raise ModelNotSupported(f"the parameters of {name} cannot be used: {error.message}") from None
        self.native = {**DEFAULTS, **theirs, **self._own}
        self.context = self.native.get("num_ctx")

    def warn_of_context(self, has: int | None) -> None:
        """No model runs with more context than it was started with; less of it is a limit that holds."""
        stated = self._own.get("num_ctx")
        if stated is not None and has is not None and stated > has:
            self.warnings.append(
                f"options.num_ctx: {stated} is more than the {has} that this model runs with, which hold"
            )

    def check_picture(self) -> None:
        foreign = sorted(self.named - {"seed", "num_ctx"})
        if foreign:
            raise BadRequest(f"options.{foreign[0]}: it is for text; of a picture seed can be set")
        if self.context is not None:
            self.warnings.append("options.num_ctx changes nothing for a picture")


def _check(name: str, value: Any) -> None:
    if name in ABSENT:
        allowed, why = ABSENT[name]
        if not allowed(value):
            raise BadRequest(f"options.{name}: {why}")
    elif name not in SAME and name not in HINTS:
        raise BadRequest(f"options.{name[:64]} is not supported; {', '.join(SAME)} are")


class _Checked(Struct, frozen=True):
    """Only read, so that errors name the field as the client does."""

    options: Options
