"""An adapter made ready for a model: for each layer of each component, what is added to which of its rows."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlx.core as mx

from models.adapters.adapter_file import UP, AdapterError, AdapterFile, listed, read_adapter_file
from models.adapters.names import LayerNames, Target, component_of
from models.adapters.spellings import guess_model
from models.adapters.terms import Kronecker, LowRank, Term, TermError, make_term

METADATA = "lora_adapter_metadata"  # diffusers' name for PEFT's settings
MODEL_KEYS = ("modelspec.architecture", "ss_base_model_version", "base_model")
COMPONENTS = {"text_encoder": "text encoder", "text_encoder_2": "second text encoder"}


@dataclass(frozen=True)
class Change:
    """A term, and the rows that it is added to."""

    target: Target
    term: Term


@dataclass(frozen=True)
class Adapter:
    """`changes`: by component and by the path of a layer. `warnings` are for those who use it."""

    name: str
    changes: Mapping[str, Mapping[str, tuple[Change, ...]]]
    warnings: tuple[str, ...] = ()

    @property
    def arrays(self) -> list[mx.array]:
        layers = (layers for component in self.changes.values() for layers in component.values())
        return [array for changes in layers for change in changes for array in change.term.arrays]

    @property
    def nbytes(self) -> int:
        return sum(array.nbytes for array in self.arrays)


def read_adapter(path: Path, name: str, model: str, names: Mapping[str, LayerNames]) -> Adapter:
    """Read `path` for a model, called `model` in messages, with these components. Every tensor is used, or named in an
    AdapterError."""
    file = read_adapter_file(path, name)
    alphas = _declared_alphas(file.metadata, name)
    changes: dict[str, dict[str, list[Change]]] = {}
    unknown, misshaped = [], []
    for layer, roles in file.groups.items():
        component, short = component_of(layer)
        target = names[component].find(short) if component in names else None
        if target is None:
            unknown.append(layer)
            continue
        try:
            term = make_term(roles, target.outputs, target.inputs, _alpha(alphas, component, short))
            term = _swapped(term) if target.swapped else term
        except TermError as error:
            misshaped.append(f"{layer} {error}")
            continue
        placed = changes.setdefault(component, {}).setdefault(target.path, [])
        placed.append(Change(target, term))
    _check(name, model, file, unknown, misshaped)
    adapter = _without_duplicates(name, changes)
    mx.eval(adapter.arrays)
    return adapter


def _check(name: str, model: str, file: AdapterFile, unknown: list[str], misshaped: list[str]) -> None:
    unknown = [layer for layer in unknown if not _has_no_effect(file.groups[layer])]
    if not unknown and not misshaped:
        return
    problems = []
    if unknown:
        problems.append(f"{len(unknown)} of {len(file.groups)} layers are not in it: {listed(unknown)}")
    if misshaped:
        problems.append(f"{len(misshaped)} have another shape: {listed(misshaped, 3)}")
    guess = guess_model(unknown or file.groups) or "another model"
    declared = next((file.metadata[key] for key in MODEL_KEYS if file.metadata.get(key)), None)
    made_for = (
        f"the file says that it is for {declared[:80]!r}" if declared else f"its names are those of {guess}"
    )
    raise AdapterError(f"{name} does not belong to this model ({model}): {'; '.join(problems)}; {made_for}")


def _has_no_effect(roles: Mapping[str, mx.array]) -> bool:
    """Some tools write zeros for layers that they have not trained."""
    effective = [array for role, array in roles.items() if role in (UP, "hada_w1_a", "lokr_w1", "lokr_w1_a")]
    return bool(effective) and not any(mx.any(array != 0).item() for array in effective)


def _without_duplicates(name: str, changes: Mapping[str, Mapping[str, list[Change]]]) -> Adapter:
    """One tool stores a fused layer beside its parts: then the parts count."""
    kept: dict[str, dict[str, tuple[Change, ...]]] = {}
    doubled = []
    for component, layers in changes.items():
        for path, each in layers.items():
            narrow = _narrowest(each)
            doubled += [path] * (len(each) - len(narrow))
            kept.setdefault(component, {})[path] = tuple(narrow)
    if not doubled:
        return Adapter(name, kept)
    return Adapter(
        name, kept, (f"{name} stores {len(doubled)} layers twice, fused and in parts; the parts are used",)
    )


def _narrowest(changes: list[Change]) -> list[Change]:
    """Those that overlap with no narrower one."""
    kept: list[Change] = []
    for change in sorted(changes, key=lambda change: (change.target.outputs, change.target.foreign)):
        if not any(_overlap(change.target, other.target) for other in kept):
            kept.append(change)
    return kept


def _overlap(one: Target, other: Target) -> bool:
    return one.start < other.stop and other.start < one.stop


def _swapped(term: Term) -> Term:
    """The term with the halves of its rows exchanged."""
    if isinstance(term, Kronecker):
        raise TermError("is LoKr of a layer whose rows are in another order here, which is not supported")
    half = term.up.shape[0] // 2
    bias = None if term.bias is None else mx.roll(term.bias, half)
    return LowRank(term.down, mx.roll(term.up, half, 0), bias, term.scale)


# -- alphas that stand in the metadata


def _declared_alphas(metadata: Mapping[str, str], name: str) -> Mapping[str, Any]:
    """PEFT's settings by component, as diffusers stores them: {"transformer.lora_alpha": 8, …}."""
    text = metadata.get(METADATA)
    if text is None:
        return {}
    try:
        settings = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise AdapterError(f"{name}: {METADATA} in its header is not JSON ({error})") from None
    if not isinstance(settings, dict):
        raise AdapterError(f"{name}: {METADATA} in its header is not a JSON object")
    for key, value in settings.items():
        if key.endswith((".use_dora", ".use_rslora")) and value:
            raise AdapterError(f"{name}: {key} is set in its header; LoRA, LoHa and LoKr are supported")
    return settings


def _alpha(settings: Mapping[str, Any], component: str, layer: str) -> float | None:
    """A layer's alpha: its own by pattern, or the component's; None: alpha is the rank."""
    patterns = settings.get(f"{component}.alpha_pattern")
    candidates: Iterable[Any] = ()
    if isinstance(patterns, dict):
        candidates = (value for key, value in patterns.items() if f".{layer}".endswith(f".{key}"))
    value = next(iter(candidates), settings.get(f"{component}.lora_alpha"))
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
