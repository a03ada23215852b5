"""What the clients of a language model ask for at once: how many they are, and what their prompts are like."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from runner.bench.options import Lengths, Options
from runner.bench.records import counted, show_prompts
from runner.errors import BadRequest

SERVED = ("load", "first", "http")  # the parts in which clients send requests
EDIT_TOKENS = 1200  # that a file to edit has at most, with the tokenizers of trained models


@dataclass(frozen=True)
class Case:
    """`lengths`: the least and the most tokens of a prompt, None for some forty words. `long`: tokens of a long prompt, which
    comes while the other clients are answered, or of `long_share` of the prompts. `edit`: the prompts are files to edit."""

    clients: int
    lengths: Lengths | None = None
    long: int = 0
    long_share: float = 0.0
    edit: bool = False

    @property
    def comes_late(self) -> bool:
        return self.long > 0 and not self.long_share

    @property
    def long_count(self) -> int:
        """How many of the prompts that come together are long."""
        return round(self.clients * self.long_share)

    def __str__(self) -> str:
        words = [counted(self.clients, "client"), *show_prompts(self.lengths, self.long, self.long_share)]
        return ", ".join([*words, *(["files to edit"] if self.edit else [])])

    @property
    def longest(self) -> int:
        """Tokens of the longest prompt, as far as they are known."""
        return max(self.long, self.lengths[1] if self.lengths else 0, EDIT_TOKENS if self.edit else 0)


def cases(options: Options) -> Iterator[Case]:
    for lengths in options.prompt_tokens or (None,):
        for clients in options.clients:
            yield Case(clients, lengths, options.long or 0, options.long_share or 0.0, options.edit)


def check_cases(config: Mapping[str, Any], options: Options) -> None:
    """Refuse combinations that make no sense, and prompts that do not fit into the model of this config.json."""
    if options.long_share and not options.long:
        raise BadRequest(f"--long-share {options.long_share} needs --long, the tokens of the long prompts")
    if options.edit and (options.prompt_tokens or options.long):
        raise BadRequest("--edit has prompts of its own: leave out --prompt-tokens and --long")
    context = config.get("max_position_embeddings")
    for case in cases(options):
        if case.comes_late and case.clients < 2:
            raise BadRequest(
                f"--long {case.long}: --clients {case.clients} is too few, because the long prompt comes while other clients "
                "write; give at least 2, or --long-share"
            )
        if case.long_share and not 0 < case.long_count < case.clients:
            raise BadRequest(
                f"--long-share {case.long_share} of --clients {case.clients} is {case.long_count}; some of the prompts "
                "must be long, and not all"
            )
        if isinstance(context, int) and case.longest + options.tokens > context:
            raise BadRequest(
                f"prompts of {case.longest} tokens and answers of {options.tokens} (--tokens) exceed the model's context "
                f"of {context}"
            )
