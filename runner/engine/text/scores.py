"""Scoring jobs: log probabilities of prompts, a chunk in each step of the worker, so that text generation does not wait."""

import logging
import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from models.language.batch.prompt_scoring import score
from models.language.batch.sequence import TokenLogprob
from models.language.load import LanguageModel
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.tokens import Score
from runner.errors import BadRequest
from runner.protocol.text import Failed, Logprob, ScoreDone

log = logging.getLogger("diptych.text")

NOT_FINITE = (
    "the model produced NaN or infinite logits: the weights are corrupt, or overflow at this precision "
    "(try --dtype float32)"
)


@dataclass(eq=False)
class Scoring:
    """A scoring job in progress."""

    job: Job
    request: Score
    chunks: Iterator[list[TokenLogprob]]
    logprobs: list[TokenLogprob] = field(default_factory=list)


class Scores:
    """The scoring jobs of one model, one after another: each holds a cache."""

    def __init__(
        self,
        model: LanguageModel,
        spread: bool,
        text: Callable[[int], str],
        describe: Callable[[int, TokenLogprob], Logprob],
    ) -> None:
        """`text` and `describe`: of a token."""
        self._model = model
        self._spread = spread
        self._text = text
        self._describe = describe
        self._waiting: deque[Scoring] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def admit(self, job: Job, request: Score) -> None:
        if self._spread:
            raise BadRequest(
                "logprobs: log probabilities of a prompt are not supported while the model is spread over processes"
            )
        chunks = score(self._model.model, self._model.new_cache, request.prompt, request.top)
        job.state = Scoring(job, request, chunks)
        self._waiting.append(job.state)

    def drop(self, scoring: Scoring) -> None:
        self._waiting.remove(scoring)

    def clear(self) -> list[Job]:
        """Drop all jobs; returns those that were lost."""
        lost = [scoring.job for scoring in self._waiting]
        self._waiting.clear()
        return lost

    def step(self) -> Iterable[JobEvent]:
        if not self._waiting:
            return
        scoring = self._waiting[0]
        try:
            chunk = next(scoring.chunks, [])
            if not all(math.isfinite(one.logprob) for one in chunk):
                raise FloatingPointError(NOT_FINITE)
        except Exception as error:  # any error ends only this job
            log.warning("a prompt could not be scored: %s", error)
            yield self._end(JobEvent(scoring.job, Failed(str(error)), last=True))
            return
        scoring.logprobs += chunk
        prompt = scoring.request.prompt
        if len(scoring.logprobs) == len(prompt) - 1:
            logprobs = [self._describe(*pair) for pair in zip(prompt[1:], scoring.logprobs, strict=True)]
            yield self._end(
                JobEvent(scoring.job, ScoreDone(prompt, self._text(prompt[0]), logprobs), last=True)
            )

    def _end(self, event: JobEvent) -> JobEvent:
        self._waiting.popleft()
        event.job.state = None
        return event
