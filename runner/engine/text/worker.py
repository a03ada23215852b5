"""The text worker: turns jobs into sequences of a batch, and its outputs into events. Runs on the GPU thread."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, NoReturn

import mlx.core as mx
import msgspec

from models.config import ConfigError
from models.embedding.reranker import Reranker, RerankError
from models.embedding.sentence_transformers import EmbeddingError
from models.files import LocalModel, LoraFile
from models.kernels.checked import reports
from models.kernels.gpu import on_cuda
from models.language.architectures import scores_documents
from models.language.batch.batch import Batch
from models.language.batch.options import Drafting
from models.language.batch.sequence import Output, Sequence, TokenLogprob
from models.language.batch.warmup import WarmUp
from models.language.cache.prefix_cache import PrefixCache
from models.language.distributed.coordinator import Ranks
from models.language.embedding.model import embedder_of
from models.language.embedding.reranker import AnswerReranker
from models.language.load import LanguageModel, load
from models.language.speculate.draft_model import DraftModel, check_tokenizer
from models.language.speculate.drafter import RowDrafter
from runner.engine import device
from runner.engine.jobs import Job, JobEvent
from runner.engine.text.detokenizer import Detokenizer, TokenText
from runner.engine.text.kv_disk import KVDisk, open_disk
from runner.engine.text.kv_memory import kv_memory
from runner.engine.text.output_parser import OutputParser, ParsedDelta
from runner.engine.text.picture_memory import room_check
from runner.engine.text.pictures import Sight
from runner.engine.text.pooling import Pooling, PoolingJob
from runner.engine.text.prompts import Generate, Prompts
from runner.engine.text.required_calls import RequiredCall
from runner.engine.text.scores import Scores, Scoring
from runner.engine.text.stop_strings import StopMatcher
from runner.engine.text.tokens import Embed, Rerank, Score
from runner.engine.warmup import warming_up
from runner.errors import RunnerFailed
from runner.hardware import room_to_unpack
from runner.protocol.speculate import DRAFTED
from runner.protocol.text import Failed, Logprob, LogprobAlternative, TextChunk, TextDone
from runner.sources import ModelMode

log = logging.getLogger("diptych.text")


@dataclass(frozen=True)
class TextSettings:
    batch: int = 64  # sequences decoded together
    cache_bytes: int | None = None  # of the prefix cache; None: a tenth of the device's memory
    kv_memory: int | None = None  # bytes for keys and values of texts being written; None: what is left
    kv_disk: int = 0  # bytes of keys and values that may be on disk
    kv_disk_folder: str | None = None
    context: int | None = None
    kv_bits: int | None = None
    lookup: bool = False  # draft tokens from what a text repeats, unless a request says otherwise
    draft: LocalModel | None = None  # a model that drafts tokens
    drafted: int = DRAFTED  # tokens drafted in one step, at most
    float32: bool = False
    room: int | None = None  # memory that the gateway has for all models
    warm_up: bool = True
    loras: tuple[LoraFile, ...] = ()  # beyond the model's own


def load_text_worker(
    local: LocalModel,
    settings: TextSettings,
    progress: Callable[[float], None],
    ranks: Ranks | None = None,
    why_lost: Callable[[], str] = str,
) -> "TextWorker":
    """`ranks`: the processes that the model is sharded over; `why_lost` says why one of them has ended."""
    device.keep_wired()
    device.limit_unused()
    model = load(
        local,
        float32=settings.float32,
        kv_bits=settings.kv_bits,
        context=settings.context,
        progress=progress,
        group=ranks.group if ranks else None,
        room=room_to_unpack(settings.room) if settings.float32 and not device.has_gpu() else None,
        loras=settings.loras,
    )
    for note in model.notes:
        log.info("%s", note)
    for warning in model.warnings:
        log.warning("%s", warning)
    draft = None if settings.draft is None else _load_draft(settings.draft, settings, model)
    warms_up = settings.warm_up and on_cuda()
    worker = TextWorker(model, settings, ranks or Ranks(), why_lost, warms_up, draft)
    if settings.kv_disk:
        worker.use_disk(local, settings.kv_disk, settings.kv_disk_folder)
    return worker


def _load_draft(local: LocalModel, settings: TextSettings, model: LanguageModel) -> LanguageModel:
    draft = load(local, float32=settings.float32)
    check_tokenizer(model, draft)
    log.info("tokens are drafted by %s", draft.name)
    return draft


def _reranker(model: LanguageModel, ranks: Ranks) -> Reranker | RerankError:
    """The reranker that a model is, or why it is not one."""
    if not scores_documents(model.config, model.name):
        return RerankError("this model writes text and scores no documents; a reranker is needed")
    if ranks.spread:
        return RerankError("a model over several processes (--tensor-parallel) scores no documents")
    try:
        return AnswerReranker(model.model, model.folder, model.tokenizer)
    except (EmbeddingError, ConfigError, RerankError) as error:
        return RerankError(str(error))


def cache_limit(settings: TextSettings) -> int:
    """The size of the prefix cache in bytes."""
    return device.memory() // 10 if settings.cache_bytes is None else settings.cache_bytes


@dataclass(eq=False)
class _Answer:
    """A text job in progress."""

    job: Job
    request: Generate
    sequence: Sequence
    detokenizer: Detokenizer
    stops: StopMatcher
    began: float = field(default_factory=time.perf_counter)
    first: float | None = None
    written: int = 0  # tokens
    accepted: int = 0  # of these, tokens that were drafted


class TextWorker:
    """Implements engine.Worker for one language model."""

    mode = ModelMode.TEXT

    def __init__(
        self,
        model: LanguageModel,
        settings: TextSettings,
        ranks: Ranks,
        why_lost: Callable[[], str],
        warms_up: bool = False,
        draft: LanguageModel | None = None,
    ) -> None:
        self.model = model
        self._ranks = ranks
        self._why_lost = why_lost
        self._drafted = self._accepted = 0
        self._kv = kv_memory(model, settings.kv_memory, cache_limit(settings), settings.room, draft)
        self.context = self._kv.context
        self.notes = [*model.notes, *model.warnings]
        self._kv.report()
        embedder = embedder_of(model.model, model.folder, model.tokenizer, ranks)
        self._pooling = Pooling(embedder, _reranker(model, ranks), ranks.spread)
        self._prefix = PrefixCache(cache_limit(settings))
        self._batch = Batch(
            model.model,
            model.vocab,
            model.new_cache,
            self._prefix,
            settings.batch,
            device.leave_a_core(),
            ranks,
            self._kv.tokens,
            self._kv.most_padding,
            RowDrafter(None if draft is None else self._draft_model(draft)),
            model.vision,
        )
        self.notes += reports  # of kernels that do not work here: they are tried by now
        self.prompts = Prompts(
            model.tokenizer,
            model.vocab,
            self.context,
            model.stop_tokens,
            self._pooling.tokens,
            self._kv.why_shorter,
            Drafting(settings.drafted, settings.lookup, draft is not None),
            self._batch.why_no_drafts,
            Sight(model.tokenizer, model.vision, self._batch.why_no_pictures, room_check(model.config)),
            self._pooling.pair,
        )
        if self._batch.why_no_drafts and (settings.lookup or settings.draft is not None):
            self.notes.append(f"speculative decoding is off: {self._batch.why_no_drafts}")
        self._token_text = TokenText(model.tokenizer)
        self._scores = Scores(model, ranks.spread, self._token_text.text, self._described)
        self._warms_up = warms_up
        self._warm_up = WarmUp(model.model, self._batch, model.vocab)
        self._disk: KVDisk | None = None

    def use_disk(self, local: LocalModel, limit: int, folder: str | None) -> None:
        """Keep blocks that leave memory on disk, as far as that is possible."""
        opened = open_disk(self.model, local, self._batch.network, limit, folder)
        if isinstance(opened, KVDisk):
            self._disk = opened
        else:
            log.warning("%s", opened)
            self.notes.append(opened)

    def _draft_model(self, draft: LanguageModel) -> DraftModel:
        return DraftModel(draft, self.model.vocab, self._kv.tokens or 2**16)

    # -- engine.Worker

    @property
    def busy(self) -> bool:
        return self._batch.busy or len(self._pooling) > 0 or len(self._scores) > 0

    @property
    def room(self) -> int:
        return self._batch.max_rows - len(self._batch) - len(self._pooling) - len(self._scores)

    def admit(self, job: Job) -> None:
        request = job.request
        if isinstance(request, Embed | Rerank):
            self._pooling.admit(job, request)
            return
        if isinstance(request, Score):
            self._scores.admit(job, request)
            return
        if not isinstance(request, Generate):
            raise TypeError(f"a text worker cannot handle {type(request).__name__}")
        sequence = Sequence(
            id=job,
            prompt=request.prompt,
            max_tokens=request.max_tokens,
            sampling=request.sampling,
            stop_tokens=frozenset() if request.ignore_eos else self.model.stop_tokens | request.ends,
            logprobs=request.logprobs,
            priority=request.priority,
            matcher=request.grammar.matcher() if request.grammar is not None else None,
            drafting=request.drafting,
            pictures=request.pictures,
        )
        answer = _Answer(
            job,
            request,
            sequence,
            Detokenizer(self.model.tokenizer, request.context),
            StopMatcher(request.stops),
        )
        sequence.on_started = lambda: setattr(answer, "began", time.perf_counter())
        job.state = answer
        self._batch.add(sequence)

    def step(self) -> Iterable[JobEvent]:
        yield from self._pooling.step()
        yield from self._scores.step()
        if not self._batch.busy:
            return
        for output in self._batch.step():
            if _job(output.sequence).state is not None:  # a stop string may have ended it within this step
                yield from self._own_events(output)

    def background(self) -> Iterator[None]:
        """Compiles the kernels that text generation needs, by generating a little."""
        if self.warming:
            yield from warming_up(self._warm_up.steps(), self._clear_warm_up)

    @property
    def warming(self) -> bool:
        return self._warms_up and not self._warm_up.done

    def _clear_warm_up(self) -> None:
        """After a step that failed."""
        if self._ranks.spread:
            self.give_up()
        mx.clear_cache()

    def drop(self, job: Job) -> None:
        if isinstance(job.state, PoolingJob):
            self._pooling.drop(job.state)
        elif isinstance(job.state, Scoring):
            self._scores.drop(job.state)
        elif isinstance(job.state, _Answer):
            self._batch.remove(job.state.sequence)
        job.state = None

    def give_up(self) -> NoReturn:
        """End after a failed step that other ranks may have completed."""
        why = f"a step failed, and the ranks are no longer in step: {sys.exception()}"
        raise RunnerFailed(self._why_lost() or why)

    def recover(self) -> list[Job]:
        if self._ranks.spread:
            self.give_up()
        lost = [_job(sequence) for sequence in self._batch.clear()]
        return lost + self._pooling.clear() + self._scores.clear()

    def close(self) -> None:
        if self._disk is not None:
            try:
                self._batch.end()
                self._disk.close()
            except Exception:  # after a failure on the device
                log.exception("keys and values in memory were not written to disk")
        self._batch.clear()
        mx.clear_streams()

    def stats(self) -> dict[str, Any]:
        return {
            "memory": mx.get_active_memory() + mx.get_cache_memory(),
            "cache_bytes": self._batch.kept_bytes,
            "cache_entries": self._batch.kept_entries,
            "cache_limit": self._prefix.max_bytes,
            "kv_tokens": self._batch.held_tokens,
            "kv_limit": self._kv.tokens or 0,
            "preemptions": self._batch.preemptions,
            "drafted": self._drafted,
            "accepted": self._accepted,
            "decoding": self._batch.decoding,
            "warming": self.warming,
            **(self._disk.stats() if self._disk is not None else {}),
        }

    # -- one output to events

    def _own_events(self, output: Output) -> list[JobEvent]:
        """The events of one output; an error only ends its own job."""
        try:
            return list(self._events(output))
        except Exception as error:
            log.exception("a request failed")
            self._batch.remove(output.sequence)
            _job(output.sequence).state = None
            return [JobEvent(_job(output.sequence), Failed(f"{type(error).__name__}: {error}"), last=True)]

    def _events(self, output: Output) -> Iterable[JobEvent]:
        job = _job(output.sequence)
        answer: _Answer = job.state
        if answer.first is None:
            answer.first = time.perf_counter()
        if output.error is not None:
            yield JobEvent(job, Failed(output.error), last=True)
            return
        answer.written += output.token is not None
        answer.accepted += output.accepted
        text = answer.detokenizer.add(output.token) if output.token is not None else ""
        if output.finish:
            text += answer.detokenizer.finish()
        sent, stopped = answer.stops.push(text)
        if output.finish and not stopped:
            sent += answer.stops.flush()
        delta = _parsed(answer.request.parser, sent, bool(output.finish or stopped))
        if output.token is not None:
            logprobs = self._logprobs(output.token, output.logprob)
            chunk = TextChunk(
                delta.content, output.token, logprobs, delta.thinking, delta.tool_calls, delta.call_deltas
            )
            yield JobEvent(job, chunk)
        if stopped and not output.finish:
            self._batch.remove(output.sequence)
        finish = "stop" if stopped else output.finish
        if finish:
            self._accepted += answer.accepted
            self._drafted += answer.sequence.drafted
            yield JobEvent(
                job, _done(answer, finish, delta if output.token is None else ParsedDelta()), last=True
            )
            job.state = None

    def _logprobs(self, token: int, logprob: TokenLogprob | None) -> list[Logprob] | None:
        return None if logprob is None else [self._described(token, logprob)]

    def _described(self, token: int, logprob: TokenLogprob) -> Logprob:
        text = self._token_text
        top = [
            LogprobAlternative(text.text(id), value, list(text.bytes(id)), id) for id, value in logprob.top
        ]
        return Logprob(text.text(token), logprob.logprob, list(text.bytes(token)), token, top)


def _job(sequence: Sequence) -> Job:
    assert isinstance(sequence.id, Job)
    return sequence.id


def _parsed(parser: OutputParser | RequiredCall | None, text: str, last: bool) -> ParsedDelta:
    if parser is None:
        return ParsedDelta(text)
    return parser.push(text) + parser.finish() if last else parser.push(text)


def _done(answer: _Answer, finish: str, rest: ParsedDelta) -> TextDone:
    now = time.perf_counter()
    first = answer.first or now
    done = TextDone(
        done_reason=1 if finish == "length" else 0,
        stop_reason="length" if finish == "length" else "stop",
        prompt_eval_count=len(answer.sequence.prompt),
        prompt_eval_duration=int((first - answer.began) * 1e9),
        eval_count=answer.written,
        eval_duration=int((now - first) * 1e9),
        cached=answer.sequence.cached,
        drafted=answer.sequence.drafted,
        accepted=answer.accepted,
    )
    optional = {
        "content": rest.content,
        "thinking": rest.thinking,
        "tool_calls": rest.tool_calls,
        "call_deltas": rest.call_deltas,
        "warnings": answer.request.warnings,
        "stop_string": answer.stops.matched,
        "prompt_tokens": answer.sequence.prompt if answer.request.shows_prompt else [],
    }
    extra = {name: value for name, value in optional.items() if value}
    return msgspec.structs.replace(done, **extra) if extra else done
