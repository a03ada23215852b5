"""Which pipelines the installed diffusers has, and whether a checkpoint may be given to it.

Its source is read as text: importing it takes seconds, and looking at a model should not.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NEEDED = ("torch", "diffusers", "transformers")
ADVICE = "pip install 'diptych[torch]' lets diffusers run what it knows"
# Where components may come from; beside these, diffusers' own folders of pipelines.
LIBRARIES = ("diffusers", "transformers")
# Modules beside the pipelines' folders that hold no pipeline of their own.
TOOLS = ("pipeline_utils", "auto_pipeline", "onnx_utils")
# What a call takes that makes something else than pictures.
OTHERS = {
    "num_frames": "videos",
    "audio_length_in_s": "sound",
    "audio_end_in_s": "sound",
    "audio_duration": "sound",
}


@dataclass(frozen=True)
class Known:
    """A pipeline class of diffusers; `takes` names what its call takes, None where it inherits its call."""

    name: str
    takes: frozenset[str] | None


def installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def refusal(name: str, index: Mapping[str, Any]) -> str | None:
    """Why a checkpoint of that class, with that model_index.json, is not run by diffusers; None when it is."""
    if not installed():
        return ADVICE
    known = find(name)
    if known is None:
        return f"diffusers, as it is installed, has no {_shown(name)}, and pipelines of a model's own are never run"
    if index.get("_class_name") != name:
        return (
            f"diffusers goes by _class_name in model_index.json, which is {_shown(index.get('_class_name'))}"
        )
    return _made_of_something_else(known) or _foreign_part(index)


def _made_of_something_else(known: Known) -> str | None:
    if known.takes is None:
        return None
    for word, made in OTHERS.items():
        if word in known.takes:
            return f"diffusers' {known.name} makes {made}, not pictures"
    if "prompt" not in known.takes:
        return f"diffusers' {known.name} takes no prompt"
    if "mask_image" in known.takes:
        return f"diffusers' {known.name} paints inside a mask, which requests here do not carry"
    return None


def _foreign_part(index: Mapping[str, Any]) -> str | None:
    """A component whose class comes from anywhere but diffusers and transformers is code of the model's own."""
    for part, library, kind in parts(index):
        if library not in LIBRARIES and not _is_pipelines_folder(library):
            return f"its {part} comes from {_shown(library)}: code of a model's own is never run"
        if not kind.isidentifier():
            return f"its {part} is of the class {_shown(kind)}, which is no name of a class"
    return None


def parts(index: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The components that a model_index.json lists: name, library, class."""
    for part, value in index.items():
        if part.startswith("_") or not isinstance(value, list) or len(value) != 2:
            continue
        if all(isinstance(item, str) for item in value):
            yield part, value[0], value[1]


def left_out(index: Mapping[str, Any]) -> list[str]:
    """The components that a model_index.json says to be none."""
    return [part for part, value in index.items() if value == [None, None]]


@cache
def find(name: str) -> Known | None:
    """The pipeline class of that name, if the installed diffusers has it."""
    root = _root()
    if root is None or not name.isidentifier() or "Pipeline" not in name:
        return None
    module = _modules(root).get(name)
    if module is None:
        return None
    place = root.joinpath("pipelines", *module.split("."))
    files = sorted(place.glob("*.py")) if place.is_dir() else [place.with_suffix(".py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        if f"class {name}(" in text:
            return Known(name, _takes(ast.parse(text), name))
    return None


@cache
def _root() -> Path | None:
    spec = importlib.util.find_spec("diffusers")
    places = list(spec.submodule_search_locations or ()) if spec else []
    return Path(places[0]) if places else None


@cache
def _modules(root: Path) -> dict[str, str]:
    """Public classes and the folder of each, from the imports that diffusers states for type checkers."""
    tree = ast.parse((root / "pipelines" / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and node.module not in TOOLS
        for alias in node.names
    }


def _takes(tree: ast.Module, name: str) -> frozenset[str] | None:
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == name:
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__call__":
                    return frozenset(arg.arg for arg in (*item.args.args, *item.args.kwonlyargs))
    return None


def _is_pipelines_folder(library: str) -> bool:
    root = _root()
    return root is not None and library.isidentifier() and (root / "pipelines" / library).is_dir()


def _shown(name: object) -> str:
    return repr(str(name)[:80])
