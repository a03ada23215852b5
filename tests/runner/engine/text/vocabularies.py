"""Small tokenizers of every kind that models come with, trained in a moment."""

from functools import cache

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CORPUS = ["the cat sat, the mat; don't! été 你好 มาก 🙂 👩‍👩‍👧 e\u0301 a\u0308 नमस्ते  two   three\n\n"] * 8


@cache
def byte_level() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    tokenizer.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=320, initial_alphabet=alphabet, show_progress=False)
    )
    tokenizer.add_special_tokens(["<|end|>"])
    tokenizer.add_tokens(["with space", "éé", "你"])
    return tokenizer


@cache
def sentencepiece(strip: bool) -> Tokenizer:
    """As Llama 2 and Mistral have it (strip), and as Gemma has it."""
    words = ["▁", "▁▁", "▁the", "cat", "▁a", "é", "你", "\u0301", "�", "."]
    vocab = {
        word: i for i, word in enumerate(["<unk>", "</s>", *(f"<0x{b:02X}>" for b in range(256)), *words])
    }
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[], byte_fallback=True, unk_token="<unk>"))
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)] if strip else parts)
    tokenizer.add_special_tokens(["</s>"])
    return tokenizer


@cache
def wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.decoder = decoders.WordPiece(cleanup=True)
    tokenizer.train_from_iterator(
        CORPUS,
        trainers.WordPieceTrainer(vocab_size=120, special_tokens=["[UNK]", "[SEP]"], show_progress=False),
    )
    return tokenizer


@cache
def suffixed() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", end_of_word_suffix="</w>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.decoder = decoders.BPEDecoder("</w>")
    trainer = trainers.BpeTrainer(
        vocab_size=120, special_tokens=["<unk>"], end_of_word_suffix="</w>", show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


@cache
def metaspace() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.train_from_iterator(CORPUS, trainers.UnigramTrainer(vocab_size=120, show_progress=False))
    return tokenizer


KINDS = {
    "byte-level": byte_level,
    "llama": lambda: sentencepiece(True),
    "gemma": lambda: sentencepiece(False),
    "wordpiece": wordpiece,
    "suffixed": suffixed,
    "metaspace": metaspace,
}
