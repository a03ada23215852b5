"""Requests and answers of /v1/rerank."""

from typing import Annotated

from msgspec import UNSET, Meta, Struct, UnsetType

from runner.protocol.duration import Duration
from runner.protocol.rerank import MOST_DOCUMENTS


class Document(Struct, frozen=True):
    text: str


class RerankCall(Struct, frozen=True):
    """`truncate`: cut a document that does not fit into the context, instead of an error. `instruction`: what relevance is,
    for models that take one."""

    model: Annotated[str, Meta(min_length=1)]
    query: Annotated[str, Meta(min_length=1)]
    documents: Annotated[list[str | Document], Meta(min_length=1, max_length=MOST_DOCUMENTS)]
    top_n: Annotated[int, Meta(ge=1)] | None = None
    return_documents: bool = True
    truncate: bool = True
    instruction: str | None = None
    keep_alive: Duration | None = None


class Ranked(Struct, frozen=True):
    """`index`: the document's place in the request."""

    index: int
    relevance_score: float
    document: Document | UnsetType = UNSET


class RerankUsage(Struct, frozen=True):
    prompt_tokens: int
    total_tokens: int


class Ranking(Struct, frozen=True):
    """The most relevant documents first."""

    id: str
    model: str
    usage: RerankUsage
    results: list[Ranked]
