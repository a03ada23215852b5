"""Where a checkpoint keeps its chat template. Rendering it, which needs jinja2, is `chat_template`'s."""

from collections.abc import Iterable, Mapping
from typing import Any

TEMPLATE_FILE = "chat_template.jinja"
# Ollama's, in the language of Go's templates; read where there is none in Jinja.
GO_TEMPLATE_FILE = "chat_template.gotmpl"
# Without that file, the first of these that has a `chat_template`.
TEMPLATE_CONFIGS = ("tokenizer_config.json", "chat_template.json")


def find_template(text: str | None, configs: Iterable[Mapping[str, Any]]) -> str | None:
    """The chat template: `text`, the content of the file of its own, or one of `configs` (of several by name, the
    default)."""
    if text is not None:
        return text
    template = next(filter(None, (config.get("chat_template") for config in configs)), None)
    if isinstance(template, list):
        named = {entry.get("name"): entry.get("template") for entry in template if isinstance(entry, dict)}
        template = named.get("default")
    return template if isinstance(template, str) else None
