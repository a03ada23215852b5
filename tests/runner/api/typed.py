"""Answers held against the types of the package that read them."""

import re
from collections.abc import Iterator
from typing import Any

from pydantic import BaseModel

from tests.runner.live import ROOT

PAGE = (ROOT / "docs" / "clients.md").read_text()
# The page's list of what is in an answer beyond OpenAI's fields: a row each, `place`.`field`.
(LISTED,) = re.findall(r"^\| additional field .*\n\|.*\n((?:\|.*\n)+)", PAGE, re.MULTILINE)
BEYOND = set(re.findall(r"^\| `(\S+)`", LISTED, re.MULTILINE))


def checked(value: Any) -> Any:
    """The value, once its own type takes it, strictly: clients read leniently, so that what is wrong, missing or
    unknown to them goes unnoticed."""
    text = value.model_dump_json(exclude_unset=True, by_alias=True, warnings="error")
    read = type(value).model_validate_json(text, strict=True)
    unknown = set(strange(read)) - BEYOND
    assert not unknown, f"neither OpenAI's nor on the page: {unknown} in {text[:500]}"
    return value


def strange(value: Any) -> Iterator[str]:
    """The fields, at every depth, that the types do not have."""
    if isinstance(value, BaseModel):
        for name in value.model_extra or {}:
            yield f"{type(value).__name__}.{name}"
        for name in type(value).model_fields:
            yield from strange(getattr(value, name))
    elif isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strange(item)
