"""Which of a model's files are its weights, and which a mode needs. Works on names alone, so that it is the same for a
folder on disk and for a repo that is not downloaded yet."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from runner.errors import ModelNotSupported
from runner.sources.base import ModelFiles, ModelMode, some

# Tokenizers and configs. Never code (*.py), never pickles (*.bin, *.pt).
TEXTS = (".json", ".jinja", ".gotmpl", ".txt", ".model", ".tiktoken")
# Beside the weights of some checkpoints, and not read here.
UNREAD = re.compile(r"(?i)^(license|readme|notice|requirements)")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5")

_PART = re.compile(r"-(\d{5})-of-(\d{5})")
_COMPONENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
# The names that libraries save under, best first; a root may hold copies of the same weights under other names.
_BASES = ("model", "diffusion_pytorch_model", "weights")


def directory(listing: Mapping[str, int], component: str) -> dict[str, int]:
    """The files in a component's folder ("" is the root): file name to bytes."""
    prefix = f"{component}/" if component else ""
    inside = {path.removeprefix(prefix): size for path, size in listing.items() if path.startswith(prefix)}
    return {name: size for name, size in inside.items() if "/" not in name}


def weight_files(files: ModelFiles, component: str) -> tuple[str, ...]:
    """The safetensors files of a component in the order they load.

    They are listed in the index, if there is one; a shard that is listed but missing is an error. Without an index it is
    the plain set, never a second copy of it in another precision (`model.fp16.safetensors`).
    """
    names = directory(files.listing(), component)
    prefix = f"{component}/" if component else ""
    for base in _BASES:
        index = f"{prefix}{base}.safetensors.index.json"
        content = files.read_json(index)
        if content is not None:
            return tuple(prefix + name for name in _indexed(content, names, f"{index} in {files.place}"))
    chosen = _plain_set(names)
    _check_parts(chosen, f"{prefix}*.safetensors in {files.place}")
    return tuple(prefix + name for name in chosen)


def indexed_bytes(files: ModelFiles, component: str) -> int | None:
    """The tensor bytes of a component according to its index; None without an index, or when it does not say."""
    prefix = f"{component}/" if component else ""
    for base in _BASES:
        content = files.read_json(f"{prefix}{base}.safetensors.index.json")
        if content is not None:
            metadata = content.get("metadata")
            size = metadata.get("total_size") if isinstance(metadata, dict) else None
            return size if type(size) is int and 0 < size < 2**60 else None
    return None


def _indexed(index: Mapping[str, Any], names: Mapping[str, int], label: str) -> list[str]:
    shards = index.get("weight_map")
    if not isinstance(shards, dict) or not all(isinstance(name, str) for name in shards.values()):
        raise ModelNotSupported(f"{label}: weight_map must map tensor names to file names")
    listed = sorted(set(shards.values()))
    missing = [name for name in listed if name not in names]
    if missing:
        raise ModelNotSupported(f"{label} lists files that are missing: {some(missing)}; download them again")
    return listed


def _plain_set(names: Iterable[str]) -> list[str]:
    """One copy of the weights: files that share a base name, plain ones rather than variants."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in sorted(names):
        if name.endswith(".safetensors") and not name.startswith("."):
            base, _, variant = _PART.sub("", name.removesuffix(".safetensors")).partition(".")
            groups.setdefault((base, variant), []).append(name)
    standard = {key: group for key, group in groups.items() if key[0] in _BASES}
    plain = {key: group for key, group in (standard or groups).items() if not key[1]}
    candidates = plain or standard or groups
    if standard:
        best = min(candidates, key=lambda key: (_BASES.index(key[0]), key[1]))
        return candidates[best]
    return [name for group in candidates.values() for name in group]


def _check_parts(names: Iterable[str], label: str) -> None:
    """`model-00001-of-00003` needs two more."""
    numbers: dict[str, set[int]] = {}
    for name in names:
        if part := _PART.search(name):
            numbers.setdefault(part[2], set()).add(int(part[1]))
    for total, parts in numbers.items():
        missing = [f"part {n} of {int(total)}" for n in range(1, int(total) + 1) if n not in parts]
        if missing:
            raise ModelNotSupported(f"{label}: {some(missing)} is missing; download it again")


def components(files: ModelFiles) -> tuple[str, ...]:
    """The component folders that the index lists, in its order; those that exist where it lists none. A modular index also
    lists parts of other repos, which have no folder."""
    index, folders = files.read_index() or {}, files.folders()
    listed = [
        key
        for key, value in index.items()
        if _COMPONENT.fullmatch(key) and not key.startswith("_") and _is_component(value, key in folders)
    ]
    return tuple(listed or (folder for folder in folders if _COMPONENT.fullmatch(folder)))


def _is_component(value: object, has_folder: bool) -> bool:
    """`[library, class]`, or of a modular index `[library, class, where to find it]`."""
    if not isinstance(value, list):
        return False
    if len(value) == 3:
        return has_folder and isinstance(value[2], dict)
    return len(value) == 2 and all(isinstance(item, str) for item in value)


def sentence_modules(files: ModelFiles) -> tuple[str, ...]:
    """The folders of a sentence-transformers model (`1_Pooling`, `2_Dense`), which say how to pool."""
    return tuple(folder for folder in files.folders() if re.fullmatch(r"\d_[A-Za-z]+", folder))


def weight_folders(files: ModelFiles, mode: ModelMode) -> tuple[str, ...]:
    """The folders of a mode's files: a picture model's components, or the root ("") and its pooling folders."""
    return components(files) if mode is ModelMode.IMAGE else ("", *sentence_modules(files))


def required_files(files: ModelFiles, mode: ModelMode) -> tuple[str, ...]:
    """The files that a mode needs, small ones first: configs, tokenizer, and one copy of the weights."""
    folders = weight_folders(files, mode)
    texts = [path for folder in folders for path in _texts(files, folder)]
    if mode is ModelMode.IMAGE and files.index is not None:
        texts.insert(0, files.index)
    weights = [path for folder in folders for path in checked_weights(files, folder)]
    if not weights:
        raise ModelNotSupported(
            f"{files.place} has no weights: looked for *.safetensors, found {some(files.listing())}"
        )
    return (*texts, *weights)


TOKENIZERS = re.compile(r"tokenizer.*|vocab\..*|spiece\.model|.*\.tiktoken|tekken\.json")


def missing_part(files: ModelFiles, *, strict: bool = True) -> str | None:
    """What a copy lacks, which may be another program's unfinished download; None when it can be used as it is.

    `strict`: a picture model must have every folder that its index lists, though it may work without some of them.
    """
    mode = ModelMode.TEXT if files.index is None else ModelMode.IMAGE
    if mode is ModelMode.TEXT and "config.json" not in files.listing():
        return "it has neither model_index.json nor config.json"
    try:
        paths = required_files(files, mode)
    except ModelNotSupported as error:
        return error.message
    if mode is ModelMode.TEXT and not any(TOKENIZERS.fullmatch(path) for path in paths):
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
    """As `files.weights`, but raises ModelNotSupported for a network without weights, or with pickles only."""
    weights = files.weights(component)
    if not weights:
        pickles = [name for name in directory(files.listing(), component) if name.endswith(PICKLES)]
        if pickles:
            place = f"{files.place}, folder {component}," if component else files.place
            raise ModelNotSupported(
                f"{place} has its weights only as {some(pickles)}, which can carry code and is never read; "
                "a copy saved as safetensors is needed"
            )
        # A pooling folder has a config and no weights of its own; a picture model's network has both.
        if files.index is not None and f"{component}/config.json" in files.listing():
            raise ModelNotSupported(f"{files.place} has no weights in {component}: looked for *.safetensors")
    return weights
