"""Small tokenizers, trained in a second on invented text: byte-level as Qwen's and Llama 3's, or SentencePiece's way."""

import json
import random
from dataclasses import dataclass, field

from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

SENTENCES = (
    "The harbour wakes before the town does, and the gulls know it.",
    "She counted 17 boats, 4 nets and one very old dog asleep on a coil of rope.",
    "Why would anyone paint a door blue? Because the sea is never the same blue twice!",
    "Der Morgen ist kühl, die Straße leer; über den Dächern hängt noch Nebel.",
    "À l'aube, le boulanger ouvre sa fenêtre et l'odeur du pain réveille la rue.",
    "Утром рынок шумит: яблоки, рыба, хлеб и новости со всего города.",
    "海は静かで、舟はゆっくりと帰ってくる。",
    "Tea for two 🫖, rain on the roof 🌧️, and a good book 📚.",
    'def greet(name: str) -> str:\n    return f"Hello, {name}!"\n',
    '{"name": "harbour", "boats": 17, "open": true, "tags": ["sea", "north"]}',
)
SYLLABLES = [
    "ba",
    "be",
    "bo",
    "ca",
    "ce",
    "da",
    "do",
    "fa",
    "fe",
    "ga",
    "go",
    "ha",
    "ke",
    "la",
    "le",
    "li",
    "lo",
    "ma",
    "me",
    "mi",
    "na",
    "no",
    "pa",
    "po",
    "ra",
    "re",
    "ri",
    "ro",
    "sa",
    "se",
    "si",
    "so",
    "ta",
    "te",
    "to",
    "va",
]

# As GPT-2 and its descendants cut text before merging: words with their leading space, numbers, signs, spaces.
WORDS = Regex(r"'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+")


@dataclass(frozen=True)
class Style:
    """How a family writes text down: its special tokens, its chat template, which of the two kinds it uses."""

    template: str
    specials: tuple[str, ...]
    ends: tuple[str, ...]
    bos: str | None = None
    sentencepiece: bool = False
    # Gemma puts no space before the first word, Llama 2 and Mistral do.
    leading_space: bool = True
    # Whole tokens, but part of the text: they survive decoding (thoughts, tool calls).
    words: tuple[str, ...] = field(default=())


CHATML = """\
{%- if tools %}{{ '<|im_start|>system\\n' }}
{%- if messages[0].role == 'system' %}{{ messages[0].content + '\\n\\n' }}{% endif %}
{{- 'Tools, one JSON object a line:\\n' }}
{%- for tool in tools %}{{ tool | tojson + '\\n' }}{% endfor %}
{{- 'Call one as <tool_call>\\n{"name": …, "arguments": …}\\n</tool_call><|im_end|>\\n' }}
{%- elif messages[0].role == 'system' %}{{ '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'system' and loop.first %}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\\n<tool_response>\\n' + message.content + '\\n</tool_response><|im_end|>\\n' }}
{%- else %}{{ '<|im_start|>' + message.role + '\\n' }}
{%- if message.content %}{{ message.content }}{% endif %}
{%- for tool_call in message.tool_calls or [] %}
{%- if tool_call.function %}{% set tool_call = tool_call.function %}{% endif %}
{{- '\\n<tool_call>\\n{"name": "' + tool_call.name + '", "arguments": ' }}
{{- tool_call.arguments if tool_call.arguments is string else tool_call.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}{{ '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and not enable_thinking %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{%- endif %}"""

PLAIN_CHATML = """\
{%- for message in messages %}{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

INST = """\
{{- bos_token }}
{%- for message in messages %}
{%- if message.role == 'user' %}{{ '[INST] ' + message.content + ' [/INST]' }}
{%- elif message.role == 'assistant' %}{{ ' ' + message.content + eos_token }}
{%- else %}{{ raise_exception('Only user and assistant roles are supported, not ' + message.role) }}
{%- endif %}
{%- endfor %}"""

TURNS = """\
{{- bos_token }}
{%- for message in messages %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else message.role) + '\\n' }}
{{- message.content | trim + '<end_of_turn>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif %}"""

STYLES = {
    "chatml": Style(
        CHATML,
        specials=("<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ends=("<|im_end|>", "<|endoftext|>"),
        words=("<think>", "</think>", "<tool_call>", "</tool_call>"),
    ),
    "plain": Style(
        PLAIN_CHATML,
        specials=("<|startoftext|>", "<|endoftext|>", "<|im_start|>", "<|im_end|>"),
        ends=("<|im_end|>",),
        bos="<|startoftext|>",
    ),
    "inst": Style(
        INST,
        specials=("<unk>", "<s>", "</s>", "[INST]", "[/INST]"),
        ends=("</s>",),
        bos="<s>",
        sentencepiece=True,
    ),
    "turns": Style(
        TURNS,
        specials=("<pad>", "<eos>", "<bos>", "<unk>", "<start_of_turn>", "<end_of_turn>"),
        ends=("<end_of_turn>", "<eos>"),
        bos="<bos>",
        sentencepiece=True,
        leading_space=False,
    ),
}


def corpus(words: int = 6000, seed: int = 7) -> list[str]:
    """The sentences above, and enough invented words that any vocabulary size can be reached."""
    chance = random.Random(seed)
    invented = ["".join(chance.choices(SYLLABLES, k=chance.choice((1, 2, 2, 3, 3, 4)))) for _ in range(words)]
    lines = [" ".join(invented[start : start + 12]).capitalize() + "." for start in range(0, words, 12)]
    return [*SENTENCES * 3, *lines]


def make_tokenizer(style: Style, vocab_size: int) -> Tokenizer:
    """A tokenizer of exactly `vocab_size` tokens, special ones included."""
    tokenizer = _sentencepiece(style, vocab_size) if style.sentencepiece else _byte_level(style, vocab_size)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in style.specials])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in style.words])
    if style.bos:
        ids = [(style.bos, tokenizer.token_to_id(style.bos))]
        begin = processors.TemplateProcessing(f"{style.bos} $A", f"{style.bos} $A $B", ids)
        tokenizer.post_processor = begin
    if tokenizer.get_vocab_size() != vocab_size:
        raise ValueError(
            f"vocab_size {vocab_size} cannot be reached: got {tokenizer.get_vocab_size()} tokens"
        )
    return tokenizer


def _byte_level(style: Style, vocab_size: int) -> Tokenizer:
    """Special tokens come after the learned ones, as in Qwen's."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(WORDS, "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    _train(tokenizer, vocab_size - len(style.specials) - len(style.words))
    return tokenizer


def _sentencepiece(style: Style, vocab_size: int) -> Tokenizer:
    """Special tokens first, then the 256 bytes for what no piece covers, then the pieces."""
    before = [normalizers.Prepend("▁")] if style.leading_space else []
    normalizer = normalizers.Sequence([*before, normalizers.Replace(" ", "▁")])
    learner = Tokenizer(models.BPE())
    learner.normalizer = normalizer
    # Merges never cross a word's border, though nothing is cut when text is encoded.
    learner.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    fixed = [*style.specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    pieces = vocab_size - len(fixed) - len(style.words)
    # What no piece covers is spelt in bytes, so a small vocabulary need not hold every letter.
    _train(learner, pieces, limit_alphabet=pieces // 2)
    learned = json.loads(learner.to_str())["model"]
    ordered = sorted(learned["vocab"], key=learned["vocab"].__getitem__)
    model = models.BPE(
        vocab={token: index for index, token in enumerate([*fixed, *ordered])},
        merges=[tuple(merge) for merge in learned["merges"]],
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    tokenizer = Tokenizer(model)
    tokenizer.normalizer = normalizer
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence(
        [*parts, decoders.Strip(" ", 1, 0)] if style.leading_space else parts
    )
    return tokenizer


def _train(tokenizer: Tokenizer, vocab_size: int, **options: int) -> None:
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        show_progress=False,
        initial_alphabet=[] if options else pre_tokenizers.ByteLevel.alphabet(),
        **options,
    )
    tokenizer.train_from_iterator(corpus(), trainer)
