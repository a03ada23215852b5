"""Texts and pairs of texts to the token ids of encoders. No MLX, no transformers.

    tokenizer = EncoderTokenizer.load(folder)
    tokenizer.encode("a text")
    tokenizer.pair("a question", "a document", 512)

Read from tokenizer.json; a WordPiece vocabulary also from vocab.txt.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from models.tokenizers.tokenizer import PromptTokenizer, TokenizerError, read_tokenizer_config

# Of transformers' class for WordPiece, where a configuration names none.
WORDPIECE = {
    "unk_token": "[UNK]",
    "sep_token": "[SEP]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "mask_token": "[MASK]",
}


class EncoderTokenizer:
    """Has those of transformers' methods that the engine uses, beside pairs."""

    def __init__(self, backend: Tokenizer, config: Mapping[str, Any], folder: Path) -> None:
        prompts = PromptTokenizer(backend, config, None, folder)
        self.backend, self.tokens, self.max_length = backend, prompts.tokens, prompts.max_length

    @classmethod
    def load(cls, folder: Path) -> Self:
        """From a checkpoint's folder; a TokenizerError says which files are missing or invalid."""
        config = read_tokenizer_config(folder)
        whole, words = folder / "tokenizer.json", folder / "vocab.txt"
        try:
            if whole.is_file():
                backend = Tokenizer.from_file(str(whole))
                backend.no_truncation()
                backend.no_padding()
                _normalize_as_configured(backend, config)
            elif words.is_file():
                config = {**WORDPIECE, **config}
                backend = wordpiece(models.WordPiece.read_file(str(words)), config)
            else:
                raise TokenizerError(f"{folder} has no tokenizer: tokenizer.json or vocab.txt is needed")
        except TokenizerError:
            raise
        except Exception as error:  # the tokenizers library raises nothing narrower
            raise TokenizerError(f"the tokenizer in {folder} cannot be read: {error}") from error
        return cls(backend, config, folder)

    @property
    def all_special_ids(self) -> list[int]:
        ids = (self.backend.token_to_id(token) for token in self.tokens.values())
        return [id for id in ids if id is not None]

    @property
    def bos_token(self) -> str | None:
        return self.tokens.get("bos_token") or self.tokens.get("cls_token")

    @property
    def bos_token_id(self) -> int | None:
        return None if self.bos_token is None else self.backend.token_to_id(self.bos_token)

    def encode(self, text: str, add_special_tokens: bool = True) -> list[int]:
        return list(self._encoding(text, add_special_tokens).ids)

    def decode(self, ids: list[int]) -> str:
        return str(self.backend.decode(ids, skip_special_tokens=False))

    def pair(self, first: str, second: str, limit: int) -> tuple[list[int], list[int]]:
        """The tokens of two texts as one, and the number of the text that each belongs to. Of what exceeds the limit the
        longer text is cut first."""
        one, two = self._encoding(first, False), self._encoding(second, False)
        left = max(limit - self.backend.num_special_tokens_to_add(True), 0)
        if len(one) + len(two) > left:
            shorter = min(len(one), len(two), left // 2)
            first_is_longer = len(one) > len(two)
            one.truncate(left - shorter if first_is_longer else shorter)
            two.truncate(shorter if first_is_longer else left - shorter)
        whole = self.backend.post_process(one, two)
        return list(whole.ids), list(whole.type_ids)

    def _encoding(self, text: str, add_special_tokens: bool) -> Encoding:
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise TokenizerError("the text is not valid: it contains half a character (a lone surrogate)")
        return self.backend.encode(text, add_special_tokens=add_special_tokens)


def _normalize_as_configured(backend: Tokenizer, config: Mapping[str, Any]) -> None:
    """For BERT's normalizer the configuration counts, as in transformers."""
    own = backend.normalizer
    if not isinstance(own, normalizers.BertNormalizer):
        return
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=own.clean_text,
        handle_chinese_chars=config.get("tokenize_chinese_chars", own.handle_chinese_chars),
        strip_accents=config.get("strip_accents", own.strip_accents),
        lowercase=config.get("do_lower_case", own.lowercase),
    )


def wordpiece(vocabulary: Mapping[str, int], config: Mapping[str, Any]) -> Tokenizer:
    """BERT's tokenizer over these words; `config` has its special tokens."""
    tokens = {name: _content(config[name]) for name in WORDPIECE}
    missing = [
        token
        for token in (tokens["unk_token"], tokens["cls_token"], tokens["sep_token"])
        if token not in vocabulary
    ]
    if missing:
        raise TokenizerError(f"the vocabulary lacks {', '.join(missing)}")
    backend = Tokenizer(models.WordPiece(dict(vocabulary), unk_token=tokens["unk_token"]))
    backend.normalizer = normalizers.BertNormalizer(
        handle_chinese_chars=config.get("tokenize_chinese_chars", True),
        strip_accents=config.get("strip_accents"),
        lowercase=config.get("do_lower_case", True),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece()
    start, end = tokens["cls_token"], tokens["sep_token"]
    backend.post_processor = processors.TemplateProcessing(
        single=f"{start}:0 $A:0 {end}:0",
        pair=f"{start}:0 $A:0 {end}:0 $B:1 {end}:1",
        special_tokens=[(start, vocabulary[start]), (end, vocabulary[end])],
    )
    return backend


def _content(token: Any) -> str:
    text = token.get("content") if isinstance(token, dict) else token
    if not isinstance(text, str):
        raise TokenizerError(f"tokenizer_config.json has {token!r} for a special token; text is needed")
    return text
