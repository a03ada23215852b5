"""What a model is, by its files. Reads JSON and headers only; no MLX."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from models.encoders.architectures import is_encoder
from models.encoders.architectures import max_context as encoder_context
from models.encoders.architectures import why_unsupported as why_encoder_unsupported
from models.language.architectures import has_architecture, has_mlx_lm, max_context
from models.language.config.support import why_unsupported
from runner.errors import ModelNotSupported
from runner.inspect.image_backend import choose_engine, no_engine
from runner.inspect.memory import MemoryEstimate, allowance, quantization
from runner.inspect.mode import ModelMode, ModelType, detect_model_mode, detect_model_type, mode_of
from runner.inspect.sight import sees_pictures
from runner.inspect.tensor_summary import TensorSummary, summarize
from runner.sources import ModelFiles, find
from runner.sources.base import shorten
from runner.sources.required_files import required_files, weight_folders


@dataclass(frozen=True)
class Component:
    """A component of a model: the class that its files name ("" if none), and its size."""

    name: str
    type: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Detection:
    """The result of `detect`. What the files do not say is None; `reason` says why a model is not supported, and `engine`
    what runs it: mlx, or torch."""

    name: str
    source: str
    mode: ModelMode
    type: str
    supported: bool
    reason: str | None
    engine: str | None
    components: tuple[Component, ...]
    parameters: int | None
    bytes: int | None
    quantization: str | None
    memory: int | None
    least_memory: int | None
    context_length: int | None
    sees: bool  # a language model that reads pictures
    adapters: tuple[str, ...] = ()  # that belong to a language model


def detect(name: str | ModelFiles) -> Detection:
    """Inspect a model without loading it: what it makes, by which class, how large it is, and whether it can be run.

    Raises ModelNotFound when there is no such model, ModelNotSupported when its files are not a model.
    """
    files = find(name) if isinstance(name, str) else name
    mode, type_name = mode_of(files), detect_model_type(files)
    summaries: dict[str, TensorSummary] = {}
    try:
        required_files(files, mode)
        summaries = {
            part: summarize(files.tensors(part), quantization(files, part))
            for part in weight_folders(files, mode)
        }
        reason = unsupported(files, mode, type_name)
    except ModelNotSupported as error:
        reason = error.message
    sizes = {part: summary.bytes for part, summary in summaries.items() if summary.bytes}
    estimate = MemoryEstimate(sizes, allowance(files, mode)) if sizes else None
    engine = _engine(files, mode, type_name) if reason is None else None
    staged = engine != "torch"  # which holds everything at once
    return Detection(
        name=files.name,
        source=files.source,
        mode=mode,
        type=type_name,
        supported=reason is None,
        reason=reason,
        engine=engine,
        components=tuple(_component(files, part, summaries[part]) for part in sizes),
        parameters=sum(summary.parameters for summary in summaries.values()) if sizes else None,
        bytes=sum(sizes.values()) if sizes else None,
        quantization=_stored(files, summaries) if sizes else None,
        memory=estimate.resident if estimate else None,
        least_memory=(estimate.staged if staged else estimate.resident) if estimate else None,
        context_length=_context_length(files) if mode is ModelMode.TEXT else None,
        sees=mode is ModelMode.TEXT and reason is None and sees_pictures(files),
        adapters=files.adapters(),
    )


def unsupported(files: ModelFiles, mode: ModelMode, type_name: str) -> str | None:
    """Why a model of that type cannot be run here; None when it can."""
    if mode is ModelMode.IMAGE:
        return no_engine(files, type_name)
    config = files.read_json("config.json") or {}
    if is_encoder(config):
        return why_encoder_unsupported(config)
    if not has_mlx_lm():
        return "mlx-lm, which runs language models, is not installed"
    if not has_architecture(type_name):
        return f"mlx-lm has no architecture {shorten(type_name)}"
    return why_unsupported(config)


def check_runnable(files: ModelFiles, engine: str = "auto") -> ModelType:
    """What a model makes, and by which engine; raises ModelNotSupported when it cannot be run.

    Called before any model is loaded: it reads a few small files, where a process that fails to load takes seconds.
    """
    model = detect_model_mode(files, engine)
    required_files(files, model.mode)
    if model.mode is ModelMode.IMAGE:
        return model
    reason = unsupported(files, model.mode, detect_model_type(files))
    if reason is not None:
        raise ModelNotSupported(f"{files.place} cannot be run: {reason}")
    return model


def _context_length(files: ModelFiles) -> int | None:
    config = files.read_json("config.json") or {}
    if not is_encoder(config):
        return max_context(config)
    made_for = (files.read_json("sentence_bert_config.json") or {}).get("max_seq_length")
    limits = [limit for limit in (encoder_context(config), made_for) if type(limit) is int and limit > 0]
    return min(limits, default=None)


def _engine(files: ModelFiles, mode: ModelMode, type_name: str) -> str:
    return choose_engine(files, type_name).value if mode is ModelMode.IMAGE else "mlx"


def _component(files: ModelFiles, part: str, summary: TensorSummary) -> Component:
    listed = (files.read_index() or {}).get(part) if part else None
    config = files.read_json(f"{part}/config.json" if part else "config.json") or {}
    names = config.get("architectures") or [config.get("_class_name")]
    if isinstance(listed, list) and len(listed) in (2, 3) and listed[1]:
        type_name = listed[1]
    else:
        type_name = names[0] if isinstance(names, list) else None
    return Component(part, type_name if isinstance(type_name, str) else "", summary.parameters, summary.bytes)


def _stored(files: ModelFiles, summaries: Mapping[str, TensorSummary]) -> str:
    """How most of the bytes are stored, and what else: `BF16`, `4-bit (groups of 64), BF16`."""
    sizes: Counter[str] = Counter()
    for summary in summaries.values():
        sizes.update(summary.stored)
    declared = {format for part in summaries for format in files.declared_quantization(part)}
    names = [name for name, size in sizes.most_common() if size * 100 >= sizes.total()]
    return ", ".join(names) + (f" (declared: {', '.join(sorted(declared))})" if declared else "")
