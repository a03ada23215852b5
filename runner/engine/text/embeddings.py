"""Embedding jobs: a few texts in each step of the worker, so that text generation does not wait long."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.embedding.embedder import TextEmbedder
from models.embedding.sentence_transformers import EmbeddingError
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.tokens import Embed
from runner.errors import BadRequest
from runner.protocol.text import EmbeddingDone, Failed

log = logging.getLogger("diptych.text")


@dataclass(eq=False)
class Embedding:
    """An embedding job in progress."""

    job: Job
    request: Embed
    steps: Iterator[dict[int, NDArray[np.float32]]]
    vectors: dict[int, NDArray[np.float32]] = field(default_factory=dict)


class Embeddings:
    """The embedding jobs of one model."""

    def __init__(self, embedder: TextEmbedder | EmbeddingError, spread: bool = False) -> None:
        """`embedder`, or why there is none; `spread`: over several processes, where all must fail together."""
        self._embedder = embedder
        self._spread = spread
        self._waiting: deque[Embedding] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def tokens(self, text: str) -> list[int]:
        return self._supported().tokens(text)

    def admit(self, job: Job, request: Embed) -> None:
        job.state = Embedding(job, request, self._supported().steps(request.prompts))
        self._waiting.append(job.state)

    def drop(self, embedding: Embedding) -> None:
        self._waiting.remove(embedding)

    def clear(self) -> list[Job]:
        """Drop all jobs; returns those that were lost."""
        lost = [embedding.job for embedding in self._waiting]
        self._waiting.clear()
        return lost

    def step(self) -> Iterable[JobEvent]:
        """Embed a few texts of one job; the rest follows in later steps, between tokens of other jobs."""
        if not self._waiting:
            return
        embedding = self._waiting.popleft()
        try:
            embedding.vectors.update(next(embedding.steps))
        except Exception as error:  # any error ends only this job
            if self._spread and not isinstance(error, EmbeddingError):
                raise
            log.warning("an embedding failed: %s", error)
            yield JobEvent(embedding.job, Failed(str(error)), last=True)
            return
        prompts = embedding.request.prompts
        if len(embedding.vectors) < len(prompts):
            self._waiting.append(embedding)
            return
        if not all(np.isfinite(vector).all() for vector in embedding.vectors.values()):
            yield JobEvent(
                embedding.job,
                Failed(
                    "the model produced a vector with NaN or infinite values: the weights are corrupt, or overflow at this precision"
                ),
                last=True,
            )
            return
        vectors = [embedding.vectors[index].tolist() for index in range(len(prompts))]
        yield JobEvent(embedding.job, EmbeddingDone(vectors, sum(map(len, prompts))), last=True)

    def _supported(self) -> TextEmbedder:
        if isinstance(self._embedder, EmbeddingError):
            raise BadRequest(str(self._embedder))
        return self._embedder
