"""Translates Ollama's options to the engine's: defaults, and options that are ignored with a warning."""

import math
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
SAME = (*DEFAULTS, "num_predict", "num_keep", "num_ctx", "seed", "stop", "priority", "speculate")
# Settings of a server, which do not change the answer; clients send them as a matter of course. Accepted, with a
# warning. Mirostat's numbers mean nothing without it.
HINTS = (
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "use_mmap", "use_mlock", "num_thread",
    "num_gqa", "draft_num_predict", "mirostat_tau", "mirostat_eta",
)  # fmt: skip
# Options that would change the answer. They are ignored with a warning, unless their value means "off".
IGNORED: dict[str, tuple[Callable[[Any], bool], str]] = {
    "typical_p": (lambda value: value in (0, 1), "typical sampling is not supported"),
    "tfs_z": (lambda value: value in (0, 1), "tail free sampling is not supported"),
    "mirostat": (lambda value: value == 0, "Mirostat is not supported"),
    "penalize_newline": (lambda value: value is True, "line breaks are penalized like other tokens"),
    "vocab_only": (lambda value: value is False, "models are always loaded whole"),
    "logits_all": (lambda value: value is False, "logits are not returned; use logprobs"),
    "embedding_only": (lambda value: value is False, "models are always loaded whole"),
}
MOST_WARNINGS = 16
WHOLE = ("top_k", "repeat_last_n", "num_predict", "num_keep", "num_ctx", "seed")
NUMBERS = (*DEFAULTS, *WHOLE)
# Of these, values below 0 mean no limit.
LIMITS = ("top_k", "num_ctx")

# For the OpenAPI document: our own options as in the native API, others with any value.
_OWN: dict[str, Any] = msgspec.json.schema(Options)["$defs"]["Options"]["properties"]


def _lenient_schema(name: str) -> dict[str, Any]:
    if name not in NUMBERS:
        return {"anyOf": [_OWN[name], {"type": "null"}]}
    return {"type": ["number", "string", "null"]}


OllamaOptions = Annotated[
    dict[str, Any], Meta(extra_json_schema={"properties": {name: _lenient_schema(name) for name in SAME}})
]


class ResolvedOptions:
    """The options of a request, of its model, and Ollama's defaults. `warnings` are reported in the last line."""

    def __init__(self, options: dict[str, Any] | None) -> None:
        values = {name: value for name, value in (options or {}).items() if value is not None}
        own = {name: _number(name, value) for name, value in values.items() if name in SAME}
        self.warnings = [warning for warning in map(_warning, values, values.values()) if warning][
            :MOST_WARNINGS
        ]
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
        theirs = {option: _number(option, value) for option, value in defaults.items() if option in SAME}
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


def _warning(name: str, value: Any) -> str:
    if name in IGNORED:
        is_off, why = IGNORED[name]
        return "" if is_off(value) else f"options.{name} was ignored: {why}"
    if name in HINTS:
        return f"options.{name} changes nothing here"
    return "" if name in SAME else f"options.{name[:64]} is unknown and was ignored"


def _number(name: str, value: Any) -> Any:
    """A number as Ollama takes it: cut where a whole one is needed; Modelfiles have numbers as text."""
    if name not in NUMBERS:
        return value
    if isinstance(value, str):
        try:
            value = int(value) if name in WHOLE else float(value)
        except ValueError:
            return value  # the error of its type names it
    if name in WHOLE and isinstance(value, float) and math.isfinite(value):
        value = int(value)
    return 0 if name in LIMITS and isinstance(value, int) and value < 0 else value


class _Body(Struct, frozen=True):
    """Makes errors use the client's name of the field."""

    options: Options


def _read(options: dict[str, Any]) -> Options:
    return parse(_Body, {"options": options}).options
