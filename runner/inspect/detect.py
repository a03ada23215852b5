"""What a model is, before it is loaded: the report of `diptych detect`. Reads JSON and headers only; no MLX."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from models.language.architectures import has_architecture, has_mlx_lm, max_context
from models.language.config.support import why_unsupported
from runner.errors import ModelNotSupported
from runner.inspect.image_backend import choose_engine, no_engine
from runner.inspect.memory import MemoryEstimate, allowance, quantization
from runner.inspect.mode import ModelMode, ModelType, detect_model_mode, detect_model_type, mode_of
from runner.inspect.tensor_summary import TensorSummary, summarize
from runner.sources import ModelFiles, find
from runner.sources.base import shorten
from runner.sources.required_files import wanted_files, weight_folders
from runner.units import show_size

MAKES = {ModelMode.TEXT: "text", ModelMode.IMAGE: "pictures"}
ENGINES = {"mlx": "mlx", "torch": "torch, by diffusers"}


@dataclass(frozen=True)
class Component:
    """One part of a model: the class that its files name ("" where they name none), and its size."""

    name: str
    type: str
    parameters: int
    bytes: int


@dataclass(frozen=True)
class Detection:
    """What `detect` found. What the files do not say is None; `reason` says why a model is not supported, `engine` what
    runs it: mlx, or torch."""

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


def detect(name: str | ModelFiles) -> Detection:
    """Look at a model without loading it: what it makes, by which class, how large, and whether it can be run.

    Raises ModelNotFound when there is no such model, ModelNotSupported when its files are no model at all.
    """
    files = find(name) if isinstance(name, str) else name
    mode, type_name = mode_of(files), detect_model_type(files)
    found: dict[str, TensorSummary] = {}
    try:
        wanted_files(files, mode)
        found = {
            part: summarize(files.tensors(part), quantization(files, part))
            for part in weight_folders(files, mode)
        }
        reason = unsupported(files, mode, type_name)
    except ModelNotSupported as error:
        reason = error.message
    sizes = {part: content.bytes for part, content in found.items() if content.bytes}
    estimate = MemoryEstimate(sizes, allowance(files, mode)) if sizes else None
    engine = _engine(files, mode, type_name) if reason is None else None
    whole = engine == "torch"  # which holds everything at once
    return Detection(
        name=files.name,
        source=files.source,
        mode=mode,
        type=type_name,
        supported=reason is None,
        reason=reason,
        engine=engine,
        components=tuple(_component(files, part, found[part]) for part in sizes),
        parameters=sum(content.parameters for content in found.values()) if sizes else None,
        bytes=sum(sizes.values()) if sizes else None,
        quantization=_stored(files, found) if sizes else None,
        memory=estimate.resident if estimate else None,
        least_memory=(estimate.resident if whole else estimate.staged) if estimate else None,
        context_length=max_context(files.read_json("config.json") or {}) if mode is ModelMode.TEXT else None,
    )


def unsupported(files: ModelFiles, mode: ModelMode, type_name: str) -> str | None:
    """Why a model of that type cannot be run here; None when it can."""
    if mode is ModelMode.IMAGE:
        return no_engine(files, type_name)
    if not has_mlx_lm():
        return "mlx-lm is not installed, which runs language models"
    if not has_architecture(type_name):
        return f"mlx-lm has no architecture {shorten(type_name)}"
    return why_unsupported(files.read_json("config.json") or {})


def check_runnable(files: ModelFiles) -> ModelType:
    """What a model makes, where it can be run; otherwise a ModelNotSupported that says why not.

    Everything that loads a model asks this first: it costs a few small files, and a process that fails costs seconds.
    """
    model = detect_model_mode(files)
    wanted_files(files, model.mode)
    reason = unsupported(files, model.mode, model.pipeline or detect_model_type(files))
    if reason is not None:
        raise ModelNotSupported(f"{files.place} cannot be run: {reason}")
    return model


def _engine(files: ModelFiles, mode: ModelMode, type_name: str) -> str:
    return choose_engine(files, type_name).value if mode is ModelMode.IMAGE else "mlx"


def _component(files: ModelFiles, part: str, content: TensorSummary) -> Component:
    listed = (files.read_json("model_index.json") or {}).get(part) if part else None
    config = files.read_json(f"{part}/config.json" if part else "config.json") or {}
    names = config.get("architectures") or [config.get("_class_name")]
    stated = (
        listed[1]
        if isinstance(listed, list) and len(listed) == 2
        else names[0]
        if isinstance(names, list)
        else None
    )
    return Component(part, stated if isinstance(stated, str) else "", content.parameters, content.bytes)


def _stored(files: ModelFiles, found: Mapping[str, TensorSummary]) -> str:
    """How most of the bytes are stored, and what else: `BF16`, `4-bit (groups of 64), BF16`."""
    ways: Counter[str] = Counter()
    for content in found.values():
        ways.update(content.stored)
    stated = {kind for part in found for kind in files.stated_quantization(part)}
    names = [way for way, size in ways.most_common() if size * 100 >= ways.total()]
    return ", ".join(names) + (f" (stated: {', '.join(sorted(stated))})" if stated else "")


def render(detection: Detection, as_json: bool = False) -> str:
    """The report as a reader wants it, or as JSON."""
    if as_json:
        return json.dumps(asdict(detection), indent=2, ensure_ascii=False)
    rows = [
        ("makes", MAKES[detection.mode]),
        ("type", detection.type),
        ("supported", "yes" if detection.supported else f"no: {detection.reason}"),
        *([("engine", ENGINES[detection.engine])] if detection.engine else []),
        ("source", detection.source),
        *_size_rows(detection),
    ]
    if detection.context_length:
        rows.append(("context", f"{detection.context_length:,} tokens"))
    width = max(len(label) for label, _ in rows)
    return "\n".join([detection.name, *(f"  {label:<{width}}  {value}" for label, value in rows)])


def _size_rows(detection: Detection) -> list[tuple[str, str]]:
    if detection.bytes is None or detection.parameters is None or detection.memory is None:
        return []
    rows = [("component", _component_row(part)) for part in detection.components if part.name]
    rows += [
        ("parameters", show_count(detection.parameters)),
        ("weights", f"{show_size(detection.bytes)}, {detection.quantization}"),
    ]
    memory = f"about {show_size(detection.memory)}"
    if detection.least_memory != detection.memory and detection.least_memory:
        memory += f"; {show_size(detection.least_memory)} when the text encoder does not stay"
    return [*rows, ("memory", memory)]


def _component_row(part: Component) -> str:
    named = f" {part.type}" if part.type else ""
    return f"{part.name}:{named}, {show_count(part.parameters)}, {show_size(part.bytes)}"


def show_count(count: int) -> str:
    """A number of parameters as models are named by: `3.88 B`, `137 M`, `4,096`."""
    for unit, letter in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.3g} {letter}"
    return f"{count:,}"
