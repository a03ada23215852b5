"""The worker of an encoder, which makes vectors or scores and writes no text. Runs on the GPU thread."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import mlx.core as mx

from models.embedding.reranker import RerankError
from models.embedding.sentence_transformers import EmbeddingError
from models.encoders.architectures import is_classifier
from models.encoders.cross_encoder import CrossEncoder
from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import EncoderModel, load
from models.files import LocalModel
from runner.engine import device
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.pictures import Sight
from runner.engine.text.pooling import Pooling, PoolingJob
from runner.engine.text.tokens import Embed, Rerank, Tokens
from runner.errors import BadRequest
from runner.inspect.encoder import no_text, route, what_it_is
from runner.sources import ModelMode

log = logging.getLogger("diptych.text")

# In a batch: a processor is as fast with few, and a GPU is not.
PROCESSOR_TOKENS, GPU_TOKENS = 4096, 32768
JOBS = 64  # that take turns, batch by batch


def load_encoder_worker(
    local: LocalModel, float32: bool, context: int | None, progress: Callable[[float], None]
) -> "EncoderWorker":
    device.keep_wired()
    device.limit_unused()
    model = load(local, float32=float32, context=context, progress=progress)
    for note in model.notes:
        log.info("%s", note)
    return EncoderWorker(model)


class EncoderPrompts(Tokens):
    """What an encoder can be asked for."""

    sight = Sight()

    def __init__(self, model: EncoderModel, pooling: Pooling) -> None:
        super().__init__(model.tokenizer, model.vocab, model.context, pooling.tokens, pooling.pair)
        self._config = model.config

    def generate(self, *_: Any) -> NoReturn:
        raise BadRequest(f"model: {no_text(self._config)}")

    render = score = generate


class EncoderWorker:
    """Implements engine.Worker for one encoder."""

    mode = ModelMode.TEXT

    def __init__(self, model: EncoderModel) -> None:
        self.context = model.context
        self.notes = list(model.notes)
        budget = GPU_TOKENS if device.has_gpu() else PROCESSOR_TOKENS
        wrong = f"model: this is {what_it_is(model.config)}; use it with {route(model.config)}"
        if is_classifier(model.config):
            self._pooling = Pooling(EmbeddingError(wrong), CrossEncoder(model, budget))
        else:
            self._pooling = Pooling(EncoderEmbedder(model, budget), RerankError(wrong))
        self.prompts = EncoderPrompts(model, self._pooling)

    @property
    def busy(self) -> bool:
        return len(self._pooling) > 0

    @property
    def room(self) -> int:
        return JOBS - len(self._pooling)

    def admit(self, job: Job) -> None:
        if not isinstance(job.request, Embed | Rerank):
            raise TypeError(f"an encoder cannot handle {type(job.request).__name__}")
        self._pooling.admit(job, job.request)

    def step(self) -> Iterable[JobEvent]:
        return self._pooling.step()

    def background(self) -> Iterator[None]:
        """Nothing: kernels are compiled by the first texts."""
        return iter(())

    def drop(self, job: Job) -> None:
        if isinstance(job.state, PoolingJob):
            self._pooling.drop(job.state)
        job.state = None

    def recover(self) -> list[Job]:
        return self._pooling.clear()

    def close(self) -> None:
        self._pooling.clear()
        mx.clear_streams()

    def stats(self) -> dict[str, Any]:
        return {"memory": mx.get_active_memory() + mx.get_cache_memory()}
