"""The tokens between which models fill in what is missing in the middle of a text.

A model that was trained for this is told what comes before and what comes after, each behind a token of its own, and
writes the middle. No two families share these tokens, and a few have what comes after first.
"""

from collections.abc import Collection
from dataclasses import dataclass

# Before, after, middle: of Qwen Coder, CodeGemma and Granite 4; StarCoder and Granite; SantaCoder; DeepSeek; CodeLlama as it is
# converted here and there; GLM; Falcon.
_TRIPLES = (
    ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>"),
    ("<fim_prefix>", "<fim_suffix>", "<fim_middle>"),
    ("<fim-prefix>", "<fim-suffix>", "<fim-middle>"),
    ("<｜fim▁begin｜>", "<｜fim▁hole｜>", "<｜fim▁end｜>"),
    ("▁<PRE>", "▁<SUF>", "▁<MID>"),
    ("<PRE>", "<SUF>", "<MID>"),
    ("<|code_prefix|>", "<|code_suffix|>", "<|code_middle|>"),
    ("<|prefix|>", "<|suffix|>", "<|middle|>"),
)
# Mistral's: what comes after is told first, and nothing stands before the middle.
_SUFFIX_FIRST = ("[PREFIX]", "[SUFFIX]")
# Before a repository's name, and before each of its files.
_REPOSITORIES = ("<|repo_name|>", "<|fim_repo|>", "<repo_name>", "<reponame>", "<|repo_tag|>")
_FILES = ("<|file_sep|>", "<|file_separator|>", "<file_sep>")
# What else ends a middle, beside the end of a text.
_ENDS = (
    *("<|endoftext|>", "<|fim_pad|>", "<fim_pad>", "<fim-pad>", "▁<EOT>", "<EOT>", "<|cursor|>"),
    *(*_REPOSITORIES, *_FILES),
)
# Where a tokenizer_config.json names them, if they are not among the added tokens.
CONFIG_KEYS = ("prefix_token", "suffix_token", "middle_token")


@dataclass(frozen=True)
class FillTokens:
    """Of one vocabulary. Without `middle`, the suffix is told first."""

    prefix: str
    suffix: str
    middle: str | None
    repository: str | None
    file: str | None
    ends: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """Those that have a meaning in a prompt."""
        all_words = (self.prefix, self.suffix, self.middle, self.repository, self.file)
        return tuple(word for word in all_words if word is not None)


def fill_tokens(vocabulary: Collection[str]) -> FillTokens | None:
    """The tokens of a vocabulary; None for a model that fills in nothing."""

    def first(candidates: tuple[str, ...]) -> str | None:
        return next((word for word in candidates if word in vocabulary), None)

    words = next((triple for triple in _TRIPLES if all(word in vocabulary for word in triple)), None)
    if words is not None:
        prefix, suffix, middle = words
    elif all(word in vocabulary for word in _SUFFIX_FIRST):
        (prefix, suffix), middle = _SUFFIX_FIRST, ""
    else:
        return None
    ends = tuple(word for word in _ENDS if word in vocabulary)
    return FillTokens(prefix, suffix, middle or None, first(_REPOSITORIES), first(_FILES), ends)
