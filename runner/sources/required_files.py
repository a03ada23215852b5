"""Which of a model's files are its weights, and which a mode needs. Works on names alone, so it is the same for a
folder on the disk and for a repo that is not downloaded yet."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import ModelNotSupported
from runner.sources.base import ModelFiles, ModelMode, some

# Text that a tokenizer or a config is made of. Never code (*.py), never pickles (*.bin, *.pt).
TEXTS = (".json", ".jinja", ".txt", ".model", ".tiktoken")
# What some checkpoints keep beside their weights and nothing here reads.
UNREAD = re.compile(r"(?i)^(license|readme|notice|requirements)")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")

_PART = re.compile(r"-(\d{5})-of-(\d{5})")
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
# The names that libraries save under, best first; a root may hold copies of the same weights under other names.
_BASES = ("model", "diffusion_pytorch_model", "weights")


def directory(listing: Mapping[str, int], component: str) -> dict[str, int]:
    """The files right inside a component's folder ("" is the root): file name to bytes."""
    prefix = f"{component}/" if component else ""
    inside = {path.removeprefix(prefix): size for path, size in listing.items() if path.startswith(prefix)}
    return {name: size for name, size in inside.items() if "/" not in name}


def weight_files(files: ModelFiles, component: str) -> tuple[str, ...]:
    """The safetensors files of a component in the order they load.

    The index says which, where there is one; a shard that it names and that is not there is an error. Without one it
    is the plain set, never a second copy of it in another precision (`model.fp16.safetensors`).
    """
    names = directory(files.listing(), component)
    prefix = f"{component}/" if component else ""
    for base in _BASES:
        index = f"{prefix}{base}.safetensors.index.json"
        content = files.read_json(index)
        if content is not None:
            return tuple(prefix + name for name in _indexed(content, names, f"{index} in {files.place}"))
    chosen = _plain_set(names)
    _all_parts(chosen, f"{prefix}*.safetensors in {files.place}")
    return tuple(prefix + name for name in chosen)


def indexed_bytes(files: ModelFiles, component: str) -> int | None:
    """The tensor bytes of a component as its index states them; None without an index that does."""
    prefix = f"{component}/" if component else ""
    for base in _BASES:
        content = files.read_json(f"{prefix}{base}.safetensors.index.json")
        if content is not None:
            about = content.get("metadata")
            size = about.get("total_size") if isinstance(about, dict) else None
            return size if type(size) is int and 0 < size < 2**60 else None
    return None


def _indexed(index: Mapping[str, Any], names: Mapping[str, int], shown: str) -> list[str]:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelNotSupported(f"{shown}: weight_map must map tensor names to file names")
    wanted = sorted(set(shards.values()))
    missing = [name for name in wanted if name not in names]
    if missing:
        raise ModelNotSupported(
            f"{shown} names files that are not there: {some(missing)}; download them again"
        )
    return wanted


def _plain_set(names: Iterable[str]) -> list[str]:
    """One copy of the weights: files that share a base name, of which plain ones come before variants."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if name.endswith(".safetensors") and not name.startswith("."):
            base, _, variant = _PART.sub("", name.removesuffix(".safetensors")).partition(".")
            groups.setdefault((base, variant), []).append(name)
    known = {key: group for key, group in groups.items() if key[0] in _BASES}
    plain = {key: group for key, group in (known or groups).items() if not key[1]}
    candidates = plain or known or groups
    if known:
        best = min(candidates, key=lambda key: (_BASES.index(key[0]), key[1]))
        return candidates[best]
    return [name for group in candidates.values() for name in group]


def _all_parts(names: Iterable[str], shown: str) -> None:
    """`model-00001-of-00003` announces two more."""
    found: dict[str, set[int]] = {}
    for name in names:
        if part := _PART.search(name):
            found.setdefault(part[2], set()).add(int(part[1]))
    for total, parts in found.items():
        missing = [f"part {n} of {int(total)}" for n in range(1, int(total) + 1) if n not in parts]
        if missing:
            raise ModelNotSupported(f"{shown}: {some(missing)} is not there; download it again")


def components(files: ModelFiles) -> tuple[str, ...]:
    """The component folders that model_index.json lists, in its order; those that exist where it lists none."""
    index = files.read_json("model_index.json") or {}
    listed = [
        key
        for key, value in index.items()
        if _COMPONENT.fullmatch(key) and not key.startswith("_") and _is_component(value)
    ]
    return tuple(listed or (folder for folder in files.folders() if _COMPONENT.fullmatch(folder)))


def _is_component(value: object) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(isinstance(item, str) for item in value)


def sentence_modules(files: ModelFiles) -> tuple[str, ...]:
    """The folders of a sentence-transformers model (`1_Pooling`, `2_Dense`), which say how to pool."""
    return tuple(folder for folder in files.folders() if re.fullmatch(r"\d_[A-Za-z]+", folder))


def weight_folders(files: ModelFiles, mode: ModelMode) -> tuple[str, ...]:
    """Where a mode's files lie: a picture model's components, or the root ("") and its pooling folders."""
    return components(files) if mode is ModelMode.IMAGE else ("", *sentence_modules(files))


def wanted_files(files: ModelFiles, mode: ModelMode) -> tuple[str, ...]:
    """The files that a mode needs, small ones first: configs, tokenizer, and one copy of the weights."""
    places = weight_folders(files, mode)
    texts = [path for place in places for path in _texts(files, place)]
    if mode is ModelMode.IMAGE:
        texts.insert(0, "model_index.json")
    weights = [path for place in places for path in checked_weights(files, place)]
    if not weights:
        raise ModelNotSupported(
            f"{files.place} has no weights: looked for *.safetensors, found {some(files.listing())}"
        )
    return (*texts, *weights)


TOKENIZERS = re.compile(r"tokenizer.*|vocab\..*|spiece\.model|.*\.tiktoken|tekken\.json")


def incomplete(files: ModelFiles, *, strict: bool = True) -> str | None:
    """What a copy that others may have begun to download still lacks; None when it can be used as it is.

    Strictly, a picture model has every folder that its index lists, though it may work without some of them.
    """
    mode = ModelMode.IMAGE if "model_index.json" in files.listing() else ModelMode.TEXT
    if mode is ModelMode.TEXT and "config.json" not in files.listing():
        return "it has neither model_index.json nor config.json"
    try:
        wanted = wanted_files(files, mode)
    except ModelNotSupported as error:
        return error.message
    if mode is ModelMode.TEXT and not any(TOKENIZERS.fullmatch(path) for path in wanted):
        return "it has no tokenizer"
    for name in components(files) if strict and mode is ModelMode.IMAGE else ():
        if not directory(files.listing(), name):
            return f"its folder {name} is missing"
    return None


def _texts(files: ModelFiles, component: str) -> list[str]:
    prefix = f"{component}/" if component else ""
    names = sorted(directory(files.listing(), component))
    return [
        prefix + name
        for name in names
        if name.endswith(TEXTS) and not UNREAD.match(name) and not name.startswith(".")
    ]


def checked_weights(files: ModelFiles, component: str) -> tuple[str, ...]:
    """Like the source's own `weights`, but a network without them is an error, with the reason why pickles are not
    read."""
    weights = files.weights(component)
    if not weights:
        pickles = [name for name in directory(files.listing(), component) if name.endswith(PICKLES)]
        if pickles:
            where = f"{files.place}, folder {component}," if component else files.place
            raise ModelNotSupported(
                f"{where} has its weights only as {some(pickles)}, which can carry code and is never read; "
                "a copy saved as safetensors is needed"
            )
        # A pooling folder has a config and no weights of its own; a picture model's network has both.
        if "model_index.json" in files.listing() and f"{component}/config.json" in files.listing():
            raise ModelNotSupported(f"{files.place} has no weights in {component}: looked for *.safetensors")
    return weights
