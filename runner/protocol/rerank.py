"""Documents scored by their relevance to a query: the request of a runner, and its answer."""

from typing import Annotated, Literal

from msgspec import Meta, Struct

MOST_DOCUMENTS = 2048


class RerankRequest(Struct, frozen=True, omit_defaults=True):
    """`truncate`: what exceeds the context is cut, not refused. `instruction`: what relevance is, for models that take
    one."""

    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    truncate: bool = True
    instruction: str | None = None


class RerankDone(Struct, frozen=True):
    """A score for each document, in their order."""

    scores: list[float]
    prompt_eval_count: int
    done: Literal[True] = True
