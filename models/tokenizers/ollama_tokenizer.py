"""A tokenizer whose chat template is Ollama's, in Go's language."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from models.tokenizers.go_template import OllamaTemplate
from models.tokenizers.template_location import (
    GO_TEMPLATE_FILE,
    TEMPLATE_CONFIGS,
    TEMPLATE_FILE,
    find_template,
)


def read_go_template(folder: Path) -> str | None:
    """None where there is none, or where there is one in Jinja, which comes first."""
    file = folder / GO_TEMPLATE_FILE
    if not file.is_file() or (folder / TEMPLATE_FILE).is_file():
        return None
    configs = [
        json.loads((folder / name).read_bytes()) for name in TEMPLATE_CONFIGS if (folder / name).is_file()
    ]
    if find_template(None, configs) is not None:
        return None
    return file.read_text(encoding="utf-8", errors="replace")


def use_go_template(tokenizer: Any, source: str) -> Any:
    """The tokenizer with this template in place of Jinja."""
    tokens = tokenizer.encode("")
    begin = tokenizer.bos_token if tokens and tokens[0] == tokenizer.bos_token_id else ""
    template = OllamaTemplate(source, begin)

    def apply(
        messages: Sequence[Mapping[str, Any]],
        tools: Sequence[Mapping[str, Any]] | None = None,
        enable_thinking: bool | None = None,
        continue_final_message: bool = False,
        **_: Any,
    ) -> str:
        return template.render(messages, tools, enable_thinking, continue_final_message)

    tokenizer._chat_template = apply  # as those of mlx-lm's that are Python code
    tokenizer.has_chat_template = True
    tokenizer.renders_tools = "Tools" in source
    return tokenizer
