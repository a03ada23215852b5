"""A model's capabilities, by its files: thinking, calling tools, filling in the middle, or only making vectors or scores; the parameters of pictures. No MLX.

The markers are mlx-lm's: output that it cannot parse is not a capability. They are repeated here because importing mlx-lm
imports MLX; a test compares them with those of the installed version.
"""

from collections.abc import Collection
from typing import Any

from models.config import ConfigError
from models.encoders.architectures import is_classifier, is_encoder
from models.language.architectures import scores_documents
from models.tokenizers.fill_in_middle import CONFIG_KEYS, fill_tokens
from models.tokenizers.template_location import (
    GO_TEMPLATE_FILE,
    TEMPLATE_CONFIGS,
    TEMPLATE_FILE,
    find_template,
)
from pipelines import PIPELINES, Capabilities
from runner.errors import ModelNotSupported
from runner.inspect.sight import sees_pictures
from runner.sources import ModelFiles
from runner.sources.ollama_model import OllamaModel

# Any of these in a chat template shows how its model calls tools.
CALLS = (
    ("<minimax:tool_call>",),
    ("<|tool_call>", "<tool_call|>"),
    ("<start_function_call>",),
    ("<longcat_tool_call>",),
    ("<arg_key>",),
    ("<|tool_list_start|>",),
    ("<|tool_call_start|>",),
    ("<tool_call>\\n<function=",),
    ("<tool_call>\n<function=",),
    ("<|tool_calls_section_begin|>",),
    ('<function name="', '<param name="'),
    ("[TOOL_CALLS]",),
    ("<atem:function_calls>",),
    ("<tool_call>", "tool_call.name"),
)
# Tokens of models that call tools though their template has none of these.
CALL_WORDS = ("<|tool_call_start|>", "<|tool_call_end|>")
# Pairs of tokens around a thought.
THOUGHTS = (
    ("<think>", "</think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|channel>", "<channel|>"),
)
# Tokens of Kimi K3, which does both.
BOTH = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")


def chat_template(files: ModelFiles) -> str:
    """The chat template, in Jinja or, of models of Ollama's, in Go's language; "" where there is none."""
    configs = (files.read_json(path) or {} for path in TEMPLATE_CONFIGS)
    jinja = find_template(files.read_text(TEMPLATE_FILE), configs)
    return jinja or files.read_text(GO_TEMPLATE_FILE) or ""


def text_capabilities(files: ModelFiles) -> list[str]:
    """In Ollama's terms."""
    model = files.read_json("config.json") or {}
    if scores_documents(model, files.name) or (is_encoder(model) and is_classifier(model)):
        return ["rerank"]
    if is_encoder(model):
        return ["embedding"]
    if "modules.json" in files.listing():  # sentence-transformers': trained for vectors, not for writing
        return ["embedding"]
    config = files.read_json("tokenizer_config.json") or {}
    template = chat_template(files)
    words = added_words(files)
    both = words.issuperset(BOTH)
    called = any(all(mark in template for mark in marks) for marks in CALLS)
    calls = called or both or words.issuperset(CALL_WORDS) or bool(config.get("tool_parser_type"))
    templated = bool(template or config.get("chat_template_type"))
    thinks = both or any(words.issuperset(pair) for pair in THOUGHTS)
    capabilities = {
        "completion": True,
        "vision": sees_pictures(files),
        "tools": templated and calls,
        "thinking": thinks,
        "insert": _fills_in(files, words | _contents([config.get(key) for key in CONFIG_KEYS])),
    }
    return [name for name, has in capabilities.items() if has]


def _fills_in(files: ModelFiles, words: Collection[str]) -> bool:
    """Whether what is missing between two texts can be asked for: by its tokens, or by Ollama's template."""
    return fill_tokens(words) is not None or (
        isinstance(files, OllamaModel) and ".Suffix" in files.template()
    )


def image_capabilities(files: ModelFiles, class_name: str) -> Capabilities | None:
    """None where only the loaded pipeline knows, since it is one of diffusers'."""
    family = PIPELINES.get(class_name)
    try:
        return family.capabilities(family.variant(files)) if family else None
    except (ConfigError, ModelNotSupported):  # loading it reports what is wrong
        return None


def added_words(files: ModelFiles) -> frozenset[str]:
    """The tokens added to the vocabulary; all markers are among them."""
    config = files.read_json("tokenizer_config.json") or {}
    decoder = config.get("added_tokens_decoder")
    words = _contents(list(decoder.values()) if isinstance(decoder, dict) else [])
    words |= set(files.read_json("added_tokens.json") or {})
    if not words:
        tokenizer = files.read_json("tokenizer.json") or {}
        words = _contents(tokenizer.get("added_tokens"))
    return frozenset(words)


def _contents(tokens: Any) -> set[str]:
    listed = tokens if isinstance(tokens, list) else []
    named = [token.get("content") if isinstance(token, dict) else token for token in listed]
    return {name for name in named if isinstance(name, str)}
