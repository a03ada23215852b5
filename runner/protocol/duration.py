"""A duration in a request, such as keep_alive: `5m`, `1h30m`, or seconds."""

from typing import Annotated

from msgspec import Meta

from runner.units import DURATION_PATTERN

# The pattern is for documents alone: `parse_duration` explains in better words.
Duration = Annotated[str, Meta(extra_json_schema={"pattern": DURATION_PATTERN})] | float
