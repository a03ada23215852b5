"""Jobs that make vectors or scores of texts: a few texts in each step of the worker, so that text generation does not
wait long."""

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from msgspec import Struct

from models.embedding.embedder import TextEmbedder
from models.embedding.pair import Pair
from models.embedding.reranker import Reranker, RerankError
from models.embedding.sentence_transformers import EmbeddingError
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.tokens import ChosenPrompt, Embed, Rerank
from runner.errors import BadRequest
from runner.protocol.rerank import RerankDone
from runner.protocol.text import EmbeddingDone, Failed

log = logging.getLogger("diptych.text")

NOT_FINITE = (
    "the model produced NaN or infinite values: the weights are corrupt, or overflow at this precision"
)


# What clients of Cohere and Voyage call kinds of input, and the names that checkpoints have for their prompts.
ALSO = {
    "search_query": ("query", "retrieval.query"),
    "search_document": ("document", "passage", "corpus", "retrieval.passage"),
    "query": ("search_query", "retrieval.query"),
    "document": ("passage", "corpus", "search_document", "retrieval.passage"),
    "passage": ("document", "corpus", "search_document", "retrieval.passage"),
    "classification": ("Classification",),
    "clustering": ("Clustering",),
}


@dataclass(eq=False)
class PoolingJob:
    """A job in progress: `count` results in all, of which each step makes some, by index."""

    job: Job
    count: int
    steps: Iterator[dict[int, Any]]
    finish: Callable[[list[Any]], Struct]
    results: dict[int, Any] = field(default_factory=dict)


class Pooling:
    """The jobs of one model that make vectors or scores."""

    def __init__(
        self, embedder: TextEmbedder | EmbeddingError, reranker: Reranker | RerankError, spread: bool = False
    ) -> None:
        """An error says why the model cannot do it; `spread`: over several processes, where all must fail together."""
        self._embedder = embedder
        self._reranker = reranker
        self._spread = spread
        self._waiting: deque[PoolingJob] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def tokens(self, text: str, chosen: ChosenPrompt | None = None) -> list[int]:
        embedder = self._able_embedder()
        return embedder.tokens(text, _prompt_name(embedder, chosen))

    def pair(self, query: str, document: str, limit: int, instruction: str | None) -> Pair:
        reranker = self._able_reranker()
        if instruction is not None and not reranker.takes_instruction:
            raise BadRequest("instruction: this model takes none; leave it out")
        return reranker.pair(query, document, limit, instruction)

    def admit(self, job: Job, request: Embed | Rerank) -> None:
        if isinstance(request, Embed):
            embedder = self._able_embedder()
            name = _prompt_name(embedder, request.chosen)
            steps: Iterator[dict[int, Any]] = embedder.steps(request.prompts, name)
            tokens = sum(map(len, request.prompts))
            pooled = PoolingJob(job, len(request.prompts), steps, lambda found: _vectors(found, tokens))
        else:
            steps = self._able_reranker().steps(request.pairs)
            tokens = sum(len(pair.ids) for pair in request.pairs)
            pooled = PoolingJob(job, len(request.pairs), steps, lambda found: RerankDone(found, tokens))
        job.state = pooled
        self._waiting.append(pooled)

    def drop(self, pooled: PoolingJob) -> None:
        self._waiting.remove(pooled)

    def clear(self) -> list[Job]:
        """Drop all jobs; returns those that were lost."""
        lost = [pooled.job for pooled in self._waiting]
        self._waiting.clear()
        return lost

    def step(self) -> Iterable[JobEvent]:
        """A few texts of one job; the rest follows in later steps, between tokens of other jobs."""
        if not self._waiting:
            return
        pooled = self._waiting.popleft()
        try:
            pooled.results.update(next(pooled.steps))
        except Exception as error:  # any error ends only this job
            if self._spread and not isinstance(error, EmbeddingError):
                raise
            log.warning("an embedding or reranking failed: %s", error)
            yield JobEvent(pooled.job, Failed(str(error)), last=True)
            return
        if len(pooled.results) < pooled.count:
            self._waiting.append(pooled)
            return
        results = [pooled.results[index] for index in range(pooled.count)]
        finite = all(np.isfinite(result).all() for result in results)
        yield JobEvent(pooled.job, pooled.finish(results) if finite else Failed(NOT_FINITE), last=True)

    def _able_embedder(self) -> TextEmbedder:
        if isinstance(self._embedder, EmbeddingError):
            raise BadRequest(str(self._embedder))
        return self._embedder

    def _able_reranker(self) -> Reranker:
        if isinstance(self._reranker, RerankError):
            raise BadRequest(str(self._reranker))
        return self._reranker


def _vectors(vectors: list[Any], tokens: int) -> EmbeddingDone:
    return EmbeddingDone([vector.tolist() for vector in vectors], tokens)


def _prompt_name(embedder: TextEmbedder, chosen: ChosenPrompt | None) -> str | None:
    """The name that the checkpoint has for it; None: the default prompt."""
    if chosen is None:
        return None
    known = embedder.prompts
    names = (chosen.name, *(ALSO.get(chosen.name, ()) if chosen.field == "input_type" else ()))
    found = next((name for name in names if name in known), None)
    if found is None:
        has = f"it has {', '.join(known)}" if known else "it has none"
        raise BadRequest(
            f"{chosen.field}: {chosen.name[:80]!r} is not one of the model's prompts; {has[:500]}"
        )
    return found
