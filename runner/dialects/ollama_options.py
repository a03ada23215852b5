"""Ollama's options as native ones: its defaults, what is only a hint, and what is not to be had."""

from collections.abc import Callable
from typing import Any

from msgspec import Struct

from runner.errors import BadRequest
from runner.protocol import Options, parse

# What Ollama's documentation states.
DEFAULTS: dict[str, Any] = {
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.9,
    "min_p": 0.0,
    "repeat_last_n": 64,
    "repeat_penalty": 1.1,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}
SAME = (*DEFAULTS, "num_predict", "seed", "stop")
# How a server works, and not what it answers. Taken, and named among the warnings.
HINTS = (
    "numa", "num_batch", "num_gpu", "main_gpu", "low_vram", "f16_kv", "use_mmap", "use_mlock", "num_thread",
    "num_gqa", "num_keep",
)  # fmt: skip
# What would change the answer; the value that changes nothing is taken.
ABSENT: dict[str, tuple[Callable[[Any], bool], str]] = {
    "typical_p": (lambda value: value in (0, 1), "typical sampling is not supported; 1 (off) is"),
    "tfs_z": (lambda value: value in (0, 1), "tail free sampling is not supported; 1 (off) is"),
    "mirostat": (lambda value: value == 0, "Mirostat is not supported; 0 (off) is"),
    "mirostat_tau": (lambda value: True, ""),
    "mirostat_eta": (lambda value: True, ""),
    "penalize_newline": (
        lambda value: value is True,
        "line breaks are penalized as all else; true is allowed",
    ),
    "vocab_only": (lambda value: value is False, "models are loaded whole; false is allowed"),
    "logits_all": (lambda value: value is False, "logits are not answered; logprobs are"),
    "embedding_only": (lambda value: value is False, "models are loaded whole; false is allowed"),
}


class Chosen:
    """A request's options, read. `native` goes to the runner; `warnings` go into the last line."""

    def __init__(self, given: dict[str, Any] | None) -> None:
        stated = {name: value for name, value in (given or {}).items() if value is not None}
        for name, value in stated.items():
            _check(name, value)
        own = {name: value for name, value in stated.items() if name in SAME}
        parse(_Checked, {"options": own})
        self.native: dict[str, Any] = {**DEFAULTS, **own}
        self.seed: int | None = own.get("seed")
        self.context: int | None = stated.get("num_ctx")
        self.named = frozenset(own)
        self.warnings = [
            f"options.{name} changes nothing here" for name in stated if name in HINTS or name == "num_ctx"
        ]

    def check_context(self, has: int | None) -> None:
        """Models run with all the context they were started with; a smaller one is contained in it."""
        if self.context is not None and has is not None and self.context > has:
            raise BadRequest(
                f"options.num_ctx: {self.context} is more than the {has} that this model runs with"
            )

    def check_picture(self) -> None:
        foreign = sorted(self.named - {"seed"})
        if foreign:
            raise BadRequest(f"options.{foreign[0]}: it is for text; of a picture seed can be set")


def _check(name: str, value: Any) -> None:
    if name in ABSENT:
        allowed, why = ABSENT[name]
        if not allowed(value):
            raise BadRequest(f"options.{name}: {why}")
    elif name == "num_ctx":
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise BadRequest("options.num_ctx: a number of tokens above 0 is needed")
    elif name not in SAME and name not in HINTS:
        raise BadRequest(f"options.{name[:64]} is not supported; {', '.join(SAME)} and num_ctx are")


class _Checked(Struct, frozen=True):
    """Only read, so that errors name the field as the client does."""

    options: Options
