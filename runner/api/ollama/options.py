"""Translates Ollama's options to the engine's: defaults, options without effect, and unsupported ones."""

from collections.abc import Callable
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct

from runner.errors import BadRequest, ModelNotSupported
from runner.protocol.speculate import read_speculate
from runner.protocol.text import Options, parse

# From the documentation of the Modelfile. The penalty was 1.1 until August 2026; 1 means none.
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
SAME = (*DEFAULTS, "num_predict", "num_ctx", "seed", "stop", "priority", "speculate")
# Settings of a server, which do not change the answer; clients send them as a matter of course. Accepted, with a
# warning. A context that never moves on keeps everything, and Mirostat's numbers mean nothing without it.
HINTS = (
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "use_mmap", "use_mlock", "num_thread",
    "num_gqa", "num_keep", "draft_num_predict", "mirostat_tau", "mirostat_eta",
)  # fmt: skip
# Options that would change the answer: only the value that means "off" is accepted.
ABSENT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "typical_p": (lambda value: value in (0, 1), "typical sampling is not supported; use 1 (off)"),
    "tfs_z": (lambda value: value in (0, 1), "tail free sampling is not supported; use 1 (off)"),
    "mirostat": (lambda value: value == 0, "Mirostat is not supported; use 0 (off)"),
    "penalize_newline": (
        lambda value: value is True,
        "line breaks are always penalized like other tokens; use true",
    ),
    "vocab_only": (lambda value: value is False, "models are always loaded whole; use false"),
    "logits_all": (lambda value: value is False, "logits are not returned; use logprobs"),
    "embedding_only": (lambda value: value is False, "models are always loaded whole; use false"),
}


# For the OpenAPI document: our own options as in the native API, options without effect with any value.
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


class ResolvedOptions:
    """The options of a request, of its model, and Ollama's defaults. `warnings` are reported in the last line."""

    def __init__(self, options: dict[str, Any] | None) -> None:
        values = {name: value for name, value in (options or {}).items() if value is not None}
        for name, value in values.items():
            _check(name, value)
        own = {name: value for name, value in values.items() if name in SAME}
        self.warnings = [f"options.{name} changes nothing here" for name in values if name in HINTS]
        # LiteLLM translates a frequency_penalty of 0 to this.
        if own.get("repeat_penalty") == 0:
            own["repeat_penalty"] = 1.0
            self.warnings.append("options.repeat_penalty: 0 is treated as 1, no penalty")
        read_speculate(own.get("speculate"), "options.speculate")
        self._own = own
        self.engine = _read({**DEFAULTS, **own})
        self.seed: int | None = own.get("seed")
        self.names = frozenset(own)

    def apply_defaults(self, defaults: dict[str, Any], name: str) -> None:
        """The model's own options apply where the request sets none, before Ollama's defaults."""
        theirs = {option: value for option, value in defaults.items() if option in SAME}
        try:
            self.engine = _read({**DEFAULTS, **theirs, **self._own})
        except BadRequest as error:
            raise ModelNotSupported(f"the parameters of {name} cannot be used: {error.message}") from None

    @property
    def context(self) -> int | None:
        return self.engine.num_ctx

    def warn_of_context(self, length: int | None) -> None:
        """A model cannot use more context than it was started with; a smaller number is respected."""
        requested = self._own.get("num_ctx")
        if requested is not None and length is not None and requested > length:
            self.warnings.append(
                f"options.num_ctx: {requested} was reduced to {length}, the context that this model runs with"
            )

    def check_picture(self) -> None:
        foreign = sorted(self.names - {"seed", "num_ctx"})
        if foreign:
            raise BadRequest(f"options.{foreign[0]} is for text; for a picture only seed can be set")
        if "num_ctx" in self.names:
            self.warnings.append("options.num_ctx has no effect on a picture")


def _check(name: str, value: Any) -> None:
    if name in ABSENT:
        allowed, why = ABSENT[name]
        if not allowed(value):
            raise BadRequest(f"options.{name}: {why}")
    elif name not in SAME and name not in HINTS:
        raise BadRequest(f"options.{name[:64]} is not supported; supported are {', '.join(SAME)}")


class _Body(Struct, frozen=True):
    """Makes errors use the client's name of the field."""

    options: Options


def _read(options: dict[str, Any]) -> Options:
    return parse(_Body, {"options": options}).options
