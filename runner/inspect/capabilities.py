"""What a language model can do beside writing, by its files: think apart, call tools, or only make vectors. No MLX.

The marks are those that mlx-lm knows: what it cannot take apart is no capability here. They are written down again,
because importing it brings MLX; a test holds them to those of the one that is installed.
"""

from typing import Any

from models.tokenizers.template_location import TEMPLATE_CONFIGS, TEMPLATE_FILE, find_template
from runner.sources import ModelFiles

# One of these in a chat template says how its model calls tools.
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
# Of some models whose template names none, these tokens say so.
CALL_WORDS = ("<|tool_call_start|>", "<|tool_call_end|>")
# Pairs of tokens around a thought.
THOUGHTS = (
    ("<think>", "</think>"),
    ("<longcat_think>", "</longcat_think>"),
    ("<|think:start|>", "<|think:end|>"),
    ("<|channel>", "<channel|>"),
)
# Those of Kimi K3 are for both.
BOTH = ("<|open|>", "<|close|>", "<|sep|>", "<|end_of_msg|>")


def chat_template(files: ModelFiles) -> str:
    """The chat template; "" where there is none."""
    configs = (files.read_json(path) or {} for path in TEMPLATE_CONFIGS)
    return find_template(files.read_text(TEMPLATE_FILE), configs) or ""


def text_capabilities(files: ModelFiles) -> list[str]:
    """By Ollama's names for them."""
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
    found = {"completion": True, "tools": templated and calls, "thinking": thinks}
    return [name for name, can in found.items() if can]


def added_words(files: ModelFiles) -> frozenset[str]:
    """The tokens that were added to the vocabulary, which all marks are."""
    config = files.read_json("tokenizer_config.json") or {}
    decoder = config.get("added_tokens_decoder")
    found = _contents(list(decoder.values()) if isinstance(decoder, dict) else [])
    found |= set(files.read_json("added_tokens.json") or {})
    if not found:
        tokenizer = files.read_json("tokenizer.json") or {}
        found = _contents(tokenizer.get("added_tokens"))
    return frozenset(found)


def _contents(tokens: Any) -> set[str]:
    listed = tokens if isinstance(tokens, list) else []
    return {token["content"] for token in listed if isinstance(token, dict) and "content" in token}
