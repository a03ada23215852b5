"""The vocabulary in a GGUF's metadata: tokens with their types, and the roles of the special ones. No MLX."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from models.tokenizers.gguf.splitting import SPLITTINGS, Splitting

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
PREFIX = "tokenizer.ggml."
# Around what is missing in the middle of a text; the last three are their former names.
FILL_ROLES = (
    *("fim_pre", "fim_suf", "fim_mid", "fim_pad", "fim_rep", "fim_sep"),
    *("prefix", "suffix", "middle"),
)
ROLES = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
# Tokens that end an answer, beside the one that the file calls the end of the text.
ENDS = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<eos>",
    "</s>",
)
# Of WordPiece's, beside those of all: the last is the format's own spelling.
WORDPIECE_ROLES = {"cls_token": "cls", "mask_token": "mask", "sep_token": "seperator"}
MODELS = ("gpt2", "llama", "bert", "t5")
BEGINS_WORD = "▁"
MOST_TOKENS = 2_000_000


class VocabularyError(ValueError):
    """A tokenizer that is damaged, or of a kind that cannot be read here."""


@dataclass(frozen=True)
class Vocabulary:
    """`metadata` is a GGUF's, `label` names the file in errors."""

    metadata: Mapping[str, Any]
    label: str

    @cached_property
    def model(self) -> str:
        """`gpt2`: pairs of bytes, merged. `llama`: pieces with scores, as SentencePiece has them. `bert`: WordPiece,
        in which what begins a word is marked, not what continues it. `t5`: SentencePiece's Unigram, pieces with probabilities."""
        value = self.metadata.get(f"{PREFIX}model")
        if value not in MODELS:
            kind = "it has none" if value is None else f"its tokenizer.ggml.model is {str(value)[:80]!r}"
            raise VocabularyError(
                f"{self.label} cannot be run: its tokenizer cannot be read, {kind}; {', '.join(MODELS)} can be read"
            )
        return str(value)

    @cached_property
    def splitting(self) -> Splitting:
        name = self.metadata.get(f"{PREFIX}pre")
        if not isinstance(name, str) or name not in SPLITTINGS:
            value = "missing" if name is None else repr(str(name)[:80])
            raise VocabularyError(
                f"{self.label} cannot be run: how its tokenizer splits text is not known: tokenizer.ggml.pre is {value}; known "
                f"are {', '.join(SPLITTINGS)}"
            )
        return SPLITTINGS[name]

    def check(self) -> None:
        """Raise if the tokenizer cannot be read; cheap."""
        if self.model == "gpt2":
            self.splitting  # noqa: B018 - raises where it is not known
        if not isinstance(self._list("tokens"), Sequence):
            raise VocabularyError(f"{self.label}: tokenizer.ggml.tokens is not a list of text")
        count = len(self._list("tokens"))
        if not 0 < count <= MOST_TOKENS:
            raise VocabularyError(f"{self.label} has {count:,} tokens; 1 to {MOST_TOKENS:,} are allowed")
        for key, kinds in (("token_type", "bBhHiIqQ"), ("scores", "fd")):
            values = self.metadata.get(PREFIX + key)
            if values is not None and not (
                isinstance(values, array) and values.typecode in kinds and len(values) == count
            ):
                raise VocabularyError(
                    f"{self.label}: tokenizer.ggml.{key} is not a list of {count:,} numbers"
                )

    @cached_property
    def tokens(self) -> list[str]:
        self.check()
        tokens = list(self._list("tokens"))
        return tokens if self.model != "bert" else list(map(_wordpiece, tokens))

    @cached_property
    def types(self) -> list[int]:
        values = self.metadata.get(f"{PREFIX}token_type")
        return [NORMAL] * len(self._list("tokens")) if values is None else values.tolist()

    @cached_property
    def scores(self) -> list[float]:
        values = self.metadata.get(f"{PREFIX}scores")
        if values is None:
            raise VocabularyError(f"{self.label} has no tokenizer.ggml.scores, which its tokenizer needs")
        return list(values.tolist())

    @property
    def letters(self) -> bytes:
        """The table by which SentencePiece replaces letters; empty where it replaces none."""
        # Imported late: only what loads a model needs it.
        from models.tokenizers.gguf.charsmap import is_sound

        value = self.metadata.get(f"{PREFIX}precompiled_charsmap")
        if value is None:
            return b""
        table = value.tobytes() if isinstance(value, array) and value.typecode in "bB" else b""
        if not is_sound(table):
            raise VocabularyError(f"{self.label}: tokenizer.ggml.precompiled_charsmap is damaged")
        return table

    @cached_property
    def merges(self) -> list[tuple[str, str]]:
        pairs = [tuple(merge.split(" ")) for merge in self._list("merges")]
        broken = next((pair for pair in pairs if len(pair) != 2), None)
        if broken is not None:
            raise VocabularyError(
                f"{self.label}: tokenizer.ggml.merges has {' '.join(broken)[:80]!r}; two tokens with a space between are needed"
            )
        return pairs  # type: ignore[return-value]

    def _list(self, key: str) -> Sequence[str]:
        value = self.metadata.get(PREFIX + key)
        if value is None:
            raise VocabularyError(f"{self.label} has no tokenizer.ggml.{key}, which its tokenizer needs")
        if not isinstance(value, Sequence) or isinstance(value, str):
            raise VocabularyError(f"{self.label}: tokenizer.ggml.{key} is not a list of text")
        return value

    def id_of(self, name: str) -> int | None:
        """The id that the metadata gives a role, such as `eos`."""
        value = self.metadata.get(f"{PREFIX}{name}_token_id")
        if value is None or value == 2**32 - 1:  # a way to say that there is none
            return None
        if type(value) is not int or not 0 <= value < len(self._list("tokens")):
            raise VocabularyError(
                f"{self.label}: tokenizer.ggml.{name}_token_id is {str(value)[:40]}; the number of one of its "
                f"{len(self._list('tokens')):,} tokens is needed"
            )
        return value

    def flag(self, name: str, default: bool) -> bool:
        value = self.metadata.get(f"{PREFIX}{name}", default)
        if type(value) is not bool:
            raise VocabularyError(
                f"{self.label}: tokenizer.ggml.{name} is {str(value)[:40]!r}; true or false is needed"
            )
        return value

    @property
    def adds_bos(self) -> bool:
        """Old files leave it out, and mean what the tokenizer did by default."""
        return self.flag(
            "add_bos_token", self.model == "llama" or (self.model == "gpt2" and self.splitting.bos)
        )

    @property
    def adds_eos(self) -> bool:
        return self.flag("add_eos_token", self.model == "t5")

    @cached_property
    def added(self) -> dict[int, bool]:
        """The tokens that are never split, and whether each is special, which text does not show."""
        special = {CONTROL: True, UNKNOWN: True, USER_DEFINED: False}
        marked = {id: special[kind] for id, kind in enumerate(self.types) if kind in special}
        names = ("bos", "eos", "unknown", "padding", "eot", "eom", *FILL_ROLES)
        roles = [self.id_of(name) for name in names]
        return {**marked, **{id: True for id in roles if id is not None}}

    def stop_ids(self) -> list[int]:
        """The tokens that end an answer."""
        tokens = self._list("tokens")
        ids = {id for id in self.added if self.added[id] and tokens[id] in ENDS}
        named = (self.id_of(name) for name in ("eos", "eot", "eom"))
        return sorted(ids | {id for id in named if id is not None})

    def config(self, context: int) -> dict[str, Any]:
        """tokenizer_config.json, without the chat template."""
        tokens = self._list("tokens")
        names = {**ROLES, **(WORDPIECE_ROLES if self.model in ("bert", "t5") else {})}
        roles = {role: self.id_of(name) for role, name in names.items()}
        return {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "clean_up_tokenization_spaces": False,
            "model_max_length": context,
            **{role: tokens[id] for role, id in roles.items() if id is not None},
            "added_tokens_decoder": {
                str(id): {"content": tokens[id], "special": special, "normalized": False}
                for id, special in sorted(self.added.items())
            },
        }


def _wordpiece(token: str) -> str:
    """A token as BERT's own files spell it. Special ones, which are in brackets, are the same in both."""
    if token.startswith(BEGINS_WORD):
        return token[1:]
    return token if token.startswith("[") and token.endswith("]") else f"##{token}"
