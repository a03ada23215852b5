"""A GGUF's vocabulary as a tokenizer of the library `tokenizers`, which writes it as tokenizer.json."""

import math

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

from models.tokenizers.encoder import WORDPIECE, wordpiece
from models.tokenizers.gguf.vocabulary import NORMAL, Vocabulary, VocabularyError
from models.tokenizers.tokenizer import TokenizerError

SPACE = "▁"


def build_tokenizer(vocabulary: Vocabulary) -> Tokenizer:
    """Raises VocabularyError for a vocabulary that is damaged."""
    tokens = vocabulary.tokens
    ids = {token: id for id, token in enumerate(tokens)}
    if len(ids) != len(tokens):
        ids = _made_unique(tokens)
    try:
        if vocabulary.model == "bert":
            return _wordpiece(vocabulary, ids)
        kinds = {"gpt2": _byte_pairs, "llama": _pieces, "t5": _unigram}
        tokenizer = kinds[vocabulary.model](vocabulary, ids)
        _add_tokens(tokenizer, vocabulary)
        tokenizer.post_processor = _surroundings(vocabulary)
    except VocabularyError:
        raise
    except TokenizerError as error:
        raise VocabularyError(f"{vocabulary.label}: {error}") from error
    except Exception as error:  # the tokenizers library raises nothing narrower
        raise VocabularyError(f"{vocabulary.label}: its tokenizer cannot be built: {error}") from error
    return tokenizer


def _wordpiece(vocabulary: Vocabulary, ids: dict[str, int]) -> Tokenizer:
    """The special tokens are the file's; old ones name those around a text as other models' first and last."""
    named = {
        "unk_token": ("unknown",),
        "pad_token": ("padding",),
        "cls_token": ("cls", "bos"),
        "sep_token": ("seperator", "eos"),
        "mask_token": ("mask",),
    }
    tokens = dict(WORDPIECE)
    for role, names in named.items():
        id = next((id for id in map(vocabulary.id_of, names) if id is not None), None)
        if id is not None:
            tokens[role] = vocabulary.tokens[id]
    lowercase = vocabulary.flag("normalizer.lowercase", True)
    return wordpiece(ids, {**tokens, "do_lower_case": lowercase})


def _made_unique(tokens: list[str]) -> dict[str, int]:
    """Of a text that several ids have, the first encodes to it; the others keep their place under a name of their own."""
    ids: dict[str, int] = {}
    for id, token in enumerate(tokens):
        ids[f"[duplicate {id}]" if token in ids else token] = id
    return ids


def _byte_pairs(vocabulary: Vocabulary, ids: dict[str, int]) -> Tokenizer:
    splitting = vocabulary.splitting
    merges = [
        pair for pair in vocabulary.merges if pair[0] in ids and pair[1] in ids and "".join(pair) in ids
    ]
    tokenizer = Tokenizer(models.BPE(ids, merges, ignore_merges=splitting.ignore_merges))
    if splitting.nfc:
        tokenizer.normalizer = normalizers.NFC()
    splits = [pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in splitting.patterns]
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([*splits, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def _pieces(vocabulary: Vocabulary, ids: dict[str, int]) -> Tokenizer:
    unknown = vocabulary.id_of("unknown")
    tokenizer = Tokenizer(
        models.BPE(
            ids,
            _merges_by_score(vocabulary, ids),
            unk_token=None if unknown is None else vocabulary.tokens[unknown],
            fuse_unk=True,
            byte_fallback=True,
        )
    )
    spaces = normalizers.Replace(" ", SPACE)
    decoder = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if vocabulary.flag("add_space_prefix", True):
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), spaces])
        decoder.append(decoders.Strip(" ", 1, 0))
    else:
        tokenizer.normalizer = spaces
    tokenizer.decoder = decoders.Sequence(decoder)
    return tokenizer


def _unigram(vocabulary: Vocabulary, ids: dict[str, int]) -> Tokenizer:
    """The most probable pieces of a text, as SentencePiece and transformers find them."""
    scores = [score if math.isfinite(score) else 0.0 for score in vocabulary.scores]
    pieces = list(zip(ids, scores, strict=True))
    tokenizer = Tokenizer(models.Unigram(pieces, vocabulary.id_of("unknown"), byte_fallback=False))
    steps: list[normalizers.Normalizer] = []
    if letters := vocabulary.letters:
        steps.append(normalizers.Precompiled(letters))
    if vocabulary.flag("remove_extra_whitespaces", True):
        steps += [normalizers.Strip(left=True, right=True), normalizers.Replace(Regex(" {2,}"), " ")]
    tokenizer.normalizer = normalizers.Sequence(steps)
    scheme = "always" if vocabulary.flag("add_space_prefix", True) else "never"
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(SPACE, scheme)
    tokenizer.decoder = decoders.Metaspace(SPACE, scheme)
    return tokenizer


def _merges_by_score(vocabulary: Vocabulary, ids: dict[str, int]) -> list[tuple[str, str]]:
    """Every way in which two pieces make a third, the third's with the highest score first."""
    scores, types = vocabulary.scores, vocabulary.types
    merges: list[tuple[float, int, int, int]] = []
    for token, id in ids.items():
        if types[id] != NORMAL:
            continue
        halves = ((ids.get(token[:at]), ids.get(token[at:])) for at in range(1, len(token)))
        merges += [
            (-scores[id], id, left, right) for left, right in halves if left is not None and right is not None
        ]
    tokens = vocabulary.tokens
    return [(tokens[left], tokens[right]) for _, _, left, right in sorted(merges)]


def _add_tokens(tokenizer: Tokenizer, vocabulary: Vocabulary) -> None:
    added = sorted(vocabulary.added.items())
    for special in (True, False):
        tokens = [
            AddedToken(vocabulary.tokens[id], special=special, normalized=False)
            for id, is_special in added
            if is_special == special and vocabulary.tokens[id]
        ]
        (tokenizer.add_special_tokens if special else tokenizer.add_tokens)(tokens)


def _surroundings(vocabulary: Vocabulary) -> processors.PostProcessor | None:
    """The tokens before and after a text."""
    bos = vocabulary.id_of("bos") if vocabulary.adds_bos else None
    eos = vocabulary.id_of("eos") if vocabulary.adds_eos else None
    around = {id: vocabulary.tokens[id] for id in (bos, eos) if id is not None}
    if not around:
        return processors.ByteLevel(trim_offsets=False) if vocabulary.model == "gpt2" else None
    names = [*(["BOS"] if bos is not None else []), "$A", *(["EOS"] if eos is not None else [])]
    pair = [*names, *(name if name != "$A" else "$B:1" for name in names)]
    if vocabulary.model == "t5":  # as XLM-RoBERTa, whose texts are all of one type
        pair = (
            ["BOS", "$A", "EOS", "EOS", "$B", "EOS"]
            if len(around) == 2
            else [*names, *(name.replace("A", "B") for name in names)]
        )
    special = [
        {"id": name, "ids": [id], "tokens": [around[id]]}
        for name, id in (("BOS", bos), ("EOS", eos))
        if id is not None
    ]
    return processors.TemplateProcessing(single=names, pair=pair, special_tokens=special)
