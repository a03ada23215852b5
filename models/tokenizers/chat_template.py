"""Renders a checkpoint's chat template in a sandbox configured like the reference's. No MLX, no transformers."""

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

from models.tokenizers.deadline import OutOfTime, within
from models.tokenizers.template_location import TEMPLATE_FILE, find_template

# A template is a program in the checkpoint. A long chat takes milliseconds.
RENDER_SECONDS = 10.0

Message = Mapping[str, Any]


class TemplateMissing(ValueError):
    """A tokenizer without the chat template that it needs."""


class TemplateFailed(ValueError):
    """A chat template that is not valid Jinja, or that rejects its messages."""


class ChatTemplate:
    def __init__(self, source: str, tokens: Mapping[str, str] | None = None) -> None:
        """`tokens`: the special tokens that a template may use, such as bos_token."""
        self._tokens = dict(tokens or {})
        try:
            self._template = _environment().from_string(source)
        except TemplateError as error:
            raise TemplateFailed(f"the chat template cannot be read: {error}") from error

    def render(self, messages: Sequence[Message], **variables: Any) -> str:
        context = {"tools": None, "documents": None, "add_generation_prompt": True} | self._tokens | variables
        copies = [dict(message) for message in messages]
        try:
            return within(RENDER_SECONDS, lambda: self._template.render(messages=copies, **context))
        except OutOfTime:
            raise TemplateFailed(
                f"the chat template did not finish within {RENDER_SECONDS:g} seconds"
            ) from None
        except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError) as error:
            raise TemplateFailed(f"the chat template failed: {error}") from error


def read_template(folder: Path, config: Mapping[str, Any]) -> str:
    """The template beside a tokenizer, or in its configuration."""
    file = folder / TEMPLATE_FILE
    template = find_template(file.read_text(encoding="utf-8") if file.is_file() else None, [config])
    if template is None:
        raise TemplateMissing(
            f"{folder} has no chat template: neither {file.name} nor one in tokenizer_config.json"
        )
    return template


class _Generation(Extension):
    """{% generation %} marks text for training; here its content is rendered as it is."""

    tags = frozenset({"generation"})  # type: ignore[assignment]

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _PublicNamespace(Namespace):
    """A template's namespace without private names, which lead into Python's internals."""

    def __setitem__(self, name: str, value: Any) -> None:
        if name.startswith("_"):
            raise TemplateError(f"a template may not set {name!r}")
        super().__setitem__(name, value)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    environment.filters["tojson"] = _to_json
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _now
    environment.globals["namespace"] = _PublicNamespace
    return environment


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _refuse(message: str) -> None:
    raise TemplateError(message)


def _now(form: str) -> str:
    return datetime.now().strftime(form)
