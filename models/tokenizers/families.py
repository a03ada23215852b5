"""The tokenizer classes of picture models: normalization, splitting and special tokens, and how each builds a vocabulary."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

Tokens = Mapping[str, str]
# CLIP splits text into English contractions, runs of letters, single digits, and runs of anything else but space.
CLIP_WORDS = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"
# Qwen's words include a preceding sign or space, digits are separate, line ends stay with the text before them.
QWEN_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
END = "<|endoftext|>"


@dataclass(frozen=True)
class Family:
    """`tokens` are the class's special tokens; `configure` sets normalization, splitting and surrounding tokens; `from_merges`
    builds the vocabulary from vocab.json and merges.txt, if the class has that form."""

    tokens: Tokens
    configure: Callable[[Tokenizer, Tokens], None]
    from_merges: Callable[[Path, Path, Tokens], Tokenizer] | None = None


def _configure_clip(backend: Tokenizer, tokens: Tokens) -> None:
    backend.normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Replace(Regex(r"\s+"), " "), normalizers.Lowercase()]
    )
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(CLIP_WORDS), behavior="removed", invert=True),
            pre_tokenizers.ByteLevel(add_prefix_space=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    _surround(backend, tokens, "bos_token", "eos_token")


def _clip_from_merges(vocabulary: Path, merges: Path, tokens: Tokens) -> Tokenizer:
    return Tokenizer(
        models.BPE.from_file(
            str(vocabulary),
            str(merges),
            continuing_subword_prefix="",
            end_of_word_suffix="</w>",
            fuse_unk=False,
            unk_token=tokens["unk_token"],
        )
    )


def _configure_qwen(backend: Tokenizer, tokens: Tokens) -> None:
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN_WORDS), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()


def _qwen_from_merges(vocabulary: Path, merges: Path, tokens: Tokens) -> Tokenizer:
    return Tokenizer(models.BPE.from_file(str(vocabulary), str(merges), continuing_subword_prefix=""))


def _configure_t5(backend: Tokenizer, tokens: Tokens) -> None:
    """SentencePiece's character map is kept; spaces are split here, so the file's own handling of them is left out."""
    backend.normalizer = _character_map(backend)
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")]
    )
    backend.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    _surround(backend, tokens, None, "eos_token")


def _character_map(backend: Tokenizer) -> normalizers.Normalizer | None:
    own = backend.normalizer
    steps = [own[at] for at in range(len(own))] if isinstance(own, normalizers.Sequence) else [own]
    return next((step for step in steps if isinstance(step, normalizers.Precompiled)), None)


def _surround(backend: Tokenizer, tokens: Tokens, before: str | None, after: str) -> None:
    names = [tokens[name] for name in (before, after) if name is not None]
    text = f"{tokens[before]} $A {tokens[after]}" if before is not None else f"$A {tokens[after]}"
    ids = [(token, backend.token_to_id(token)) for token in dict.fromkeys(names)]
    backend.post_processor = processors.TemplateProcessing(single=text, special_tokens=ids)


FAMILIES = {
    "CLIPTokenizer": Family(
        {"bos_token": "<|startoftext|>", "eos_token": END, "unk_token": END, "pad_token": END},
        _configure_clip,
        _clip_from_merges,
    ),
    "Qwen2Tokenizer": Family(
        {"eos_token": END, "unk_token": END, "pad_token": END}, _configure_qwen, _qwen_from_merges
    ),
    "T5Tokenizer": Family({"eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}, _configure_t5),
}
