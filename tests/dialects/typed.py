"""Answers held against the types of the package that read them."""

import json
from typing import Any


def checked(value: Any) -> Any:
    """The value, once its own type takes it: clients read leniently, so that what is wrong or missing goes unnoticed."""
    text = value.model_dump_json(exclude_unset=True, by_alias=True, warnings="error")
    type(value).model_validate(json.loads(text))
    return value
