"""What an encoder is for, by its config.json: it writes no text."""

from collections.abc import Mapping
from typing import Any

from models.encoders.architectures import is_classifier, is_encoder
from runner.sources import ModelFiles


def what_it_is(config: Mapping[str, Any]) -> str:
    does = "scores documents" if is_classifier(config) else "makes vectors"
    return f"an encoder ({config['model_type']}), which {does}"


def route(config: Mapping[str, Any]) -> str:
    return "/v1/rerank" if is_classifier(config) else "/v1/embeddings or /api/embed"


def no_text(config: Mapping[str, Any]) -> str:
    return f"this is {what_it_is(config)} and cannot write text; use it with {route(config)}"


def why_silent(files: ModelFiles) -> str:
    """Why a language model writes no text; "" if it does."""
    config = files.read_json("config.json") or {}
    return no_text(config) if is_encoder(config) else ""
