"""The sample's tokenizer: Qwen's way of cutting text, its special tokens and chat template, and a vocabulary of its own."""

import json
import random
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from samples.training.edits import random_edit
from samples.training.scenes import random_scene
from samples.training.talk import conversation
from samples.training.words import caption

VOCABULARY = 1024
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
WORDS = ("<think>", "</think>")
# How Qwen's tokenizers cut text before merging.
PIECES = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
THINKING = "<think>\n\n</think>\n\n"
TEMPLATE = """\
{%- for message in messages %}
{{- '<|im_start|>' + message.role + '\\n' }}
{%- if message.role == 'assistant' %}{{ '<think>\\n\\n</think>\\n\\n' }}{% endif %}
{{- message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n<think>\\n\\n</think>\\n\\n' }}{% endif %}"""


def corpus(count: int, seed: int = 5) -> list[str]:
    chance = random.Random(seed)
    lines = []
    for _ in range(count):
        lines.append(caption(random_scene(chance), chance))
        lines.append(random_edit(chance, held=False).words)
        system, turns = conversation(chance)
        lines += [system or "", *(text for turn in turns for text in turn), "system", "user", "assistant"]
    return lines


def make_tokenizer(lines: list[str]) -> Tokenizer:
    """Byte-level merges learned from the sentences, special tokens behind them."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECES), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - len(SPECIALS) - len(WORDS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(lines, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIALS])
    tokenizer.add_tokens([AddedToken(token, special=False) for token in WORDS])
    return tokenizer


def save_tokenizer(tokenizer: Tokenizer, folder: Path) -> None:
    """The files that transformers' Qwen2Tokenizer reads."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    listed = {
        str(tokenizer.token_to_id(token)): {
            "content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
            "special": token in SPECIALS,
        }
        for token in (*SPECIALS, *WORDS)
    }  # fmt: skip
    config = {
        "tokenizer_class": "Qwen2Tokenizer",
        "model_max_length": 2048,
        "added_tokens_decoder": listed,
        "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
        "bos_token": None,
        "eos_token": "<|im_end|>",
        "pad_token": "<|endoftext|>",
        "unk_token": None,
        "add_bos_token": False,
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": TEMPLATE,
    }
    write_json(folder / "tokenizer_config.json", config)


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def prompt_text(prompt: str) -> str:
    """As the picture pipeline puts a prompt to the encoder."""
    return f"<|im_start|>user\n{prompt}<|im_end|>\n<|im_start|>assistant\n{THINKING}"


def chat_text(system: str | None, turns: list[tuple[str, str]]) -> list[tuple[str, bool]]:
    """A conversation in parts, each with whether the model is to say it."""
    parts = [(f"<|im_start|>system\n{system}<|im_end|>\n", False)] if system else []
    for user, assistant in turns:
        parts.append((prompt_text(user), False))
        parts.append((f"{assistant}<|im_end|>\n", True))
    return parts
