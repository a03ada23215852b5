"""Tokenizer folders as picture models have them, trained in a moment on a few sentences."""

import json
from pathlib import Path
from typing import Any

from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

CORPUS = [
    "a red circle on a white ground, a photograph of a lighthouse at dusk, it's raining and they've gone",
    "Ein kühler Morgen über den Dächern; l'aube est déjà là, à côté du café.",
    "Утром рынок шумит: яблоки и рыба. 海は静かで、舟が帰ってくる。 🫖 🌧️ 📚",
    "portrait of an astronaut, 35mm, f/1.8, golden hour; 1234567890!? (detailed) [sharp] {wide}",
] * 4
SPECIAL = {"lstrip": False, "rstrip": False, "single_word": False, "normalized": False, "special": True}
TEMPLATE = """\
{%- if tools %}{{ '<|im_start|>system\\nTools: ' + tools | tojson + '<|im_end|>\\n' }}{% endif %}
{%- set state = namespace(count=0) %}
{%- for message in messages %}
{%- set state.count = state.count + 1 %}
{{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
{{- '<|im_start|>assistant\\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}
{{- '<think>\\n\\n</think>\\n\\n' }}
{%- endif %}
{%- endif %}"""


def qwen(
    folder: Path, template_file: bool = False, whole: bool = True, more: tuple[str, ...] = (), **config: Any
) -> Path:
    """As Qwen3's: byte-level, special tokens behind the vocabulary, a chat template."""
    backend = Tokenizer(models.BPE())
    backend.normalizer = normalizers.NFC()
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=400, initial_alphabet=alphabet, show_progress=False)
    )
    size = backend.get_vocab_size()
    added = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<think>", "</think>", *more]
    listed = {
        str(size + at): {**SPECIAL, "content": token, "special": at not in (3, 4)}
        for at, token in enumerate(added)
    }
    values: dict[str, Any] = {
        "tokenizer_class": "Qwen2Tokenizer", "model_max_length": 131072, "added_tokens_decoder": listed,
        "eos_token": "<|im_end|>", "pad_token": "<|endoftext|>", "unk_token": None, "bos_token": None,
        "add_bos_token": False, "additional_special_tokens": ["<|im_start|>", "<|im_end|>"],
    }  # fmt: skip
    if whole:
        backend.add_tokens([AddedToken(**value) for value in listed.values()])
        backend.post_processor = processors.ByteLevel(trim_offsets=False)
    return _write(folder, backend, values | config, whole, TEMPLATE, template_file)


def qwen_vl(folder: Path) -> Path:
    """As Qwen2.5-VL's: with tokens that stand for pictures."""
    more = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    return qwen(folder, more=more)


def clip(folder: Path, whole: bool = False, **config: Any) -> Path:
    """As CLIP's: vocab.json and merges.txt (or tokenizer.json), words ending in </w>, specials in the vocabulary."""
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    learner = Tokenizer(models.BPE(end_of_word_suffix="</w>", unk_token="<|endoftext|>"))
    learner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    learner.normalizer = normalizers.Lowercase()
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    learner.train_from_iterator([line.replace(" ", "\n") for line in CORPUS], trainer)
    learned = json.loads(learner.to_str())["model"]
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in learned["merges"]]
    tokens = [*alphabet, *(f"{letter}</w>" for letter in alphabet)]
    tokens += [token for token in learned["vocab"] if token not in set(tokens)]
    vocab = {token: at for at, token in enumerate([*tokens, "<|startoftext|>", "<|endoftext|>"])}
    model = models.BPE(
        vocab=vocab, merges=[tuple(merge.split(" ")) for merge in merges], end_of_word_suffix="</w>",
        unk_token="<|endoftext|>",
    )  # fmt: skip
    backend = Tokenizer(model)
    start, end = vocab["<|startoftext|>"], vocab["<|endoftext|>"]
    values: dict[str, Any] = {
        "tokenizer_class": "CLIPTokenizer", "model_max_length": 77, "do_lower_case": True,
        "bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>", "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
        "added_tokens_decoder": {
            str(start): {**SPECIAL, "content": "<|startoftext|>", "normalized": True},
            str(end): {**SPECIAL, "content": "<|endoftext|>"},
        },
    }  # fmt: skip
    if whole:
        backend.add_tokens([AddedToken(**value) for value in values["added_tokens_decoder"].values()])
    return _write(folder, backend, values | config, whole)


def t5(folder: Path, older: bool = False, **config: Any) -> Path:
    """As T5's: Unigram with the padding first, 100 sentinels last, and the end token behind every text."""
    backend = Tokenizer(models.Unigram())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Replace("  ", " ")])
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=300, special_tokens=["<pad>", "</s>", "<unk>"], unk_token="<unk>", show_progress=False
    )
    backend.train_from_iterator(CORPUS, trainer)
    learned = json.loads(backend.to_str())["model"]["vocab"]
    sentinels = [(f"<extra_id_{at}>", 0.0) for at in range(99, -1, -1)]
    backend.model = models.Unigram([(token, score) for token, score in learned] + sentinels, unk_id=2)
    backend.normalizer = normalizers.Replace("  ", "▁") if older else None
    names = ["<pad>", "</s>", "<unk>", *(token for token, _ in sentinels)]
    backend.add_tokens([AddedToken(**SPECIAL, content=token) for token in names])
    backend.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    values: dict[str, Any] = {
        "tokenizer_class": "T5Tokenizer", "model_max_length": 512, "extra_ids": 100,
        "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>",
        "additional_special_tokens": [f"<extra_id_{at}>" for at in range(100)],
    }  # fmt: skip
    if not older:
        ids = {token: backend.token_to_id(token) for token in names}
        values["added_tokens_decoder"] = {str(at): {**SPECIAL, "content": token} for token, at in ids.items()}
    return _write(folder, backend, values | config, whole=True)


def _write(
    folder: Path,
    backend: Tokenizer,
    config: dict[str, Any],
    whole: bool,
    template: str = "",
    in_file: bool = False,
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if template and in_file:
        (folder / "chat_template.jinja").write_text(template)
    elif template:
        config["chat_template"] = template
    if whole:
        backend.save(str(folder / "tokenizer.json"))
    else:
        backend.model.save(str(folder))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    return folder
