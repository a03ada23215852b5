"""Prompts to token ids for the text encoders, identical to those of transformers' tokenizers. No MLX, no transformers.

    tokenizer = PromptTokenizer.load(folder / "tokenizer_2")
    prompt = tokenizer.encode("a red circle", length=512)
    prompt.ids, prompt.mask, prompt.cut

Normalization, splitting and surrounding tokens belong to the tokenizer's class in transformers, which overrides the file;
models.tokenizers.families has those classes. A folder without tokenizer.json is read from vocab.json and merges.txt.
SentencePiece's own spiece.model is not read.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import AddedToken, Tokenizer

from models.config import read_json
from models.tokenizers.chat_template import ChatTemplate, read_template
from models.tokenizers.families import FAMILIES, Family

# Configurations express "no limit" as a huge number.
NO_LIMIT = 1_000_000_000
NAMED = ("bos_token", "eos_token", "unk_token", "pad_token", "sep_token", "cls_token", "mask_token")


class TokenizerError(ValueError):
    """Tokenizer files that are missing or invalid, or a prompt that cannot be encoded."""


@dataclass(frozen=True)
class Prompt:
    """An encoded prompt. `mask` is 0 for padding; `cut` counts the tokens that did not fit."""

    ids: tuple[int, ...]
    mask: tuple[int, ...]
    cut: int = 0


class PromptTokenizer:
    def __init__(
        self, backend: Tokenizer, config: Mapping[str, Any], family: Family | None, folder: Path
    ) -> None:
        self.backend = backend
        self.folder = folder
        self._config = config
        self.tokens = _special_tokens(config, family)
        _add_tokens(backend, config, self.tokens)
        if family is not None:
            family.configure(backend, self.tokens)
        self.max_length = _max_length(config)
        self.padding_side = _side(config, "padding_side")
        self.truncation_side = _side(config, "truncation_side")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From a component's folder; a TokenizerError says which files are missing or invalid."""
        config = read_tokenizer_config(folder)
        family = _family(folder, config)
        return cls(_backend(folder, family, config), config, family, folder)

    def encode(self, text: str, length: int | None = None, pad: bool = True) -> Prompt:
        """At most `length` tokens (default: the model's maximum), padded to that length unless `pad` is False."""
        limit = length if length is not None else self.max_length
        if limit is None and pad:
            raise ValueError(f"{self.folder} does not state a model_max_length: a length is needed")
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise TokenizerError(
                "the prompt is not valid text: it contains half a character (a lone surrogate)"
            )
        encoding = self.backend.encode(text, add_special_tokens=False)
        around = self.backend.num_special_tokens_to_add(False)
        cut = max(0, len(encoding) + around - limit) if limit is not None else 0
        if cut:
            encoding.truncate(max(0, len(encoding) - cut), direction=self.truncation_side)
        ids = list(self.backend.post_process(encoding).ids)
        return self._padded(ids, limit or 0, cut) if pad else Prompt(tuple(ids), (1,) * len(ids), cut)

    @property
    def pad_id(self) -> int:
        token = self.tokens.get("pad_token")
        pad_id = self.backend.token_to_id(token) if token is not None else None
        if pad_id is None:
            raise TokenizerError(
                f"{self.folder} cannot pad: its pad_token is {token!r}, which is not in its vocabulary"
            )
        return pad_id

    @cached_property
    def template(self) -> ChatTemplate:
        return ChatTemplate(read_template(self.folder, self._config), self.tokens)

    def chat(self, prompt: str, **variables: Any) -> str:
        """The prompt as the only message of a user, with the prefix of the model's answer."""
        return self.template.render([{"role": "user", "content": prompt}], **variables)

    def _padded(self, ids: list[int], length: int, cut: int) -> Prompt:
        missing = length - len(ids)
        padding, real = [self.pad_id] * missing, [1] * len(ids)
        if self.padding_side == "left":
            return Prompt((*padding, *ids), (*[0] * missing, *real), cut)
        return Prompt((*ids, *padding), (*real, *[0] * missing), cut)


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json, updated from special_tokens_map.json in older folders that do not list added tokens."""
    config, older = folder / "tokenizer_config.json", folder / "special_tokens_map.json"
    values = read_json(config) if config.is_file() else {}
    if "added_tokens_decoder" not in values and older.is_file():
        values |= read_json(older)
    return values


def _family(folder: Path, config: Mapping[str, Any]) -> Family | None:
    """The tokenizer's class in transformers; None: any other, described completely by tokenizer.json."""
    name = str(config.get("tokenizer_class") or "").removesuffix("Fast")
    if name in FAMILIES:
        return FAMILIES[name]
    if (folder / "tokenizer.json").is_file():
        return None
    raise TokenizerError(
        f"{folder} has no tokenizer.json, and its tokenizer_class {name!r} is not one of {', '.join(FAMILIES)}"
    )


def _backend(folder: Path, family: Family | None, config: Mapping[str, Any]) -> Tokenizer:
    whole, vocabulary, merges = (folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
    try:
        if whole.is_file():
            backend = Tokenizer.from_file(str(whole))
            backend.no_truncation()
            backend.no_padding()
            return backend
        if family is not None and family.from_merges and vocabulary.is_file() and merges.is_file():
            return family.from_merges(vocabulary, merges, _special_tokens(config, family))
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise TokenizerError(f"the tokenizer in {folder} cannot be read: {error}") from error
    if (folder / "spiece.model").is_file():
        raise TokenizerError(
            f"{folder} has only spiece.model, which is not supported: a tokenizer.json beside it is needed"
        )
    raise TokenizerError(
        f"{folder} has no tokenizer: tokenizer.json, or vocab.json with merges.txt, is needed"
    )


def _special_tokens(config: Mapping[str, Any], family: Family | None) -> dict[str, str]:
    """The named special tokens: the configuration's, else the class's."""
    tokens = dict(family.tokens) if family is not None else {}
    for name in NAMED:
        if name in config:
            text = _content(config[name])
            if text is None:
                tokens.pop(name, None)
            else:
                tokens[name] = text
    return tokens


def _content(token: Any) -> str | None:
    """A token is stored as text, or as an object with matching options."""
    text = token.get("content") if isinstance(token, dict) else token
    if text is None or isinstance(text, str):
        return text
    raise TokenizerError(f"tokenizer_config.json has {token!r} for a special token; text is needed")


def _add_tokens(backend: Tokenizer, config: Mapping[str, Any], tokens: Mapping[str, str]) -> None:
    """Tokens that are never split: those listed in the configuration, and named ones that are missing there."""
    listed = config.get("added_tokens_decoder") or {}
    try:
        added = [_added_token(value) for _, value in sorted(listed.items(), key=lambda entry: int(entry[0]))]
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise TokenizerError(
            f"added_tokens_decoder in tokenizer_config.json cannot be read: {error}"
        ) from error
    present = {token.content for token in (*added, *backend.get_added_tokens_decoder().values())}
    extra = config.get("extra_special_tokens") or config.get("additional_special_tokens") or []
    special = [*tokens.values(), *filter(None, map(_content, extra))]
    missing = [token for token in dict.fromkeys(special) if token not in present]
    backend.add_tokens([*added, *(AddedToken(token, special=True) for token in missing)])


def _added_token(value: Mapping[str, Any]) -> AddedToken:
    flags = ("single_word", "lstrip", "rstrip", "normalized", "special")
    return AddedToken(value["content"], **{flag: bool(value[flag]) for flag in flags if flag in value})


def _max_length(config: Mapping[str, Any]) -> int | None:
    value = config.get("model_max_length")
    if value is None or (isinstance(value, int | float) and value >= NO_LIMIT):
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise TokenizerError(
            f"model_max_length in tokenizer_config.json is {value!r}; a positive whole number is needed"
        )
    return value


def _side(config: Mapping[str, Any], key: str) -> Literal["left", "right"]:
    match config.get(key, "right"):
        case "left":
            return "left"
        case "right":
            return "right"
        case other:
            raise TokenizerError(f"{key} in tokenizer_config.json is {other!r}; 'left' or 'right' is needed")
