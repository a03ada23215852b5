"""The worker of an encoder, which makes vectors and writes no text. Runs on the GPU thread."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

import mlx.core as mx

from models.encoders.embedder import EncoderEmbedder
from models.encoders.load import EncoderModel, load
from models.files import LocalModel
from runner.engine import device
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.embeddings import Embedding, Embeddings
from runner.engine.text.pictures import Sight
from runner.engine.text.tokens import Embed, Tokens
from runner.errors import BadRequest
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

    def __init__(self, model: EncoderModel, embedding_tokens: Callable[[str], list[int]]) -> None:
        super().__init__(model.tokenizer, model.vocab, model.context, embedding_tokens)
        self._type = model.config["model_type"]

    def generate(self, *_: Any) -> NoReturn:
        raise BadRequest(
            f"model: this is an encoder ({self._type}), which makes vectors and cannot write text; use it with "
            "/v1/embeddings or /api/embed"
        )

    render = generate


class EncoderWorker:
    """Implements engine.Worker for one encoder."""

    mode = ModelMode.TEXT

    def __init__(self, model: EncoderModel) -> None:
        self.context = model.context
        self.notes = list(model.notes)
        embedder = EncoderEmbedder(model, GPU_TOKENS if device.has_gpu() else PROCESSOR_TOKENS)
        self._embeddings = Embeddings(embedder)
        self.prompts = EncoderPrompts(model, embedder.tokens)

    @property
    def busy(self) -> bool:
        return len(self._embeddings) > 0

    @property
    def room(self) -> int:
        return JOBS - len(self._embeddings)

    def admit(self, job: Job) -> None:
        if not isinstance(job.request, Embed):
            raise TypeError(f"an encoder cannot handle {type(job.request).__name__}")
        self._embeddings.admit(job, job.request)

    def step(self) -> Iterable[JobEvent]:
        return self._embeddings.step()

    def background(self) -> Iterator[None]:
        """Nothing: kernels are compiled by the first texts."""
        return iter(())

    def drop(self, job: Job) -> None:
        if isinstance(job.state, Embedding):
            self._embeddings.drop(job.state)
        job.state = None

    def recover(self) -> list[Job]:
        return self._embeddings.clear()

    def close(self) -> None:
        self._embeddings.clear()
        mx.clear_streams()

    def stats(self) -> dict[str, Any]:
        return {"memory": mx.get_active_memory() + mx.get_cache_memory()}
