"""The pipelines of the installed diffusers, and whether a checkpoint may run on them.

Diffusers' source is read as text: importing it takes seconds, which inspecting a model should not.
"""

import ast
import importlib.util
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

NEEDED = ("torch", "diffusers", "transformers")
ADVICE = "diffusers may run it: pip install 'diptych[torch]'"
# Where components may come from, besides diffusers' own pipeline folders.
LIBRARIES = ("diffusers", "transformers")
# Modules beside the pipeline folders that are not pipelines.
TOOLS = ("pipeline_utils", "auto_pipeline", "onnx_utils")
# Parameters of pipelines that do not make pictures.
OTHER_OUTPUTS = {
    "num_frames": "videos",
    "audio_length_in_s": "sound",
    "audio_end_in_s": "sound",
    "audio_duration": "sound",
}


@dataclass(frozen=True)
class DiffusersPipeline:
    """A pipeline class of diffusers. `params` of its call; None: the call is inherited."""

    name: str
    params: frozenset[str] | None


def installed() -> bool:
    return all(importlib.util.find_spec(name) is not None for name in NEEDED)


def refusal(name: str, index: Mapping[str, Any]) -> str | None:
    """Why diffusers does not run a checkpoint of that class with that model_index.json; None: it does."""
    if not installed():
        return ADVICE
    pipeline = find(name)
    if pipeline is None:
        return f"the installed diffusers has no {_shown(name)}, and a model's own code is never run"
    if index.get("_class_name") != name:
        return f"diffusers uses _class_name in model_index.json, which is {_shown(index.get('_class_name'))}"
    return _other_purpose(pipeline) or _foreign_part(index)


def _other_purpose(pipeline: DiffusersPipeline) -> str | None:
    if pipeline.params is None:
        return None
    for param, output in OTHER_OUTPUTS.items():
        if param in pipeline.params:
            return f"diffusers' {pipeline.name} makes {output}, not pictures"
    if "prompt" not in pipeline.params:
        return f"diffusers' {pipeline.name} takes no prompt"
    if "mask_image" in pipeline.params:
        return f"diffusers' {pipeline.name} paints inside a mask, which Diptych does not support"
    return None


def _foreign_part(index: Mapping[str, Any]) -> str | None:
    """A component from anywhere but diffusers and transformers is the model's own code."""
    for part, library, kind in parts(index):
        if library not in LIBRARIES and not _is_pipelines_folder(library):
            return f"its {part} comes from {_shown(library)}: a model's own code is never run"
        if not kind.isidentifier():
            return f"its {part} has the class {_shown(kind)}, which is not a valid class name"
    return None


def parts(index: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """The components in a model_index.json: name, library, class."""
    for part, value in index.items():
        if part.startswith("_") or not isinstance(value, list) or len(value) != 2:
            continue
        if all(isinstance(item, str) for item in value):
            yield part, value[0], value[1]


def left_out(index: Mapping[str, Any]) -> list[str]:
    """The components that a model_index.json leaves out."""
    return [part for part, value in index.items() if value == [None, None]]


@cache
def find(name: str) -> DiffusersPipeline | None:
    """The pipeline class of that name in the installed diffusers."""
    root = _root()
    if root is None or not name.isidentifier() or "Pipeline" not in name:
        return None
    module = _modules(root).get(name)
    if module is None:
        return None
    path = root.joinpath("pipelines", *module.split("."))
    files = sorted(path.glob("*.py")) if path.is_dir() else [path.with_suffix(".py")]
    for file in files:
        text = file.read_text(encoding="utf-8")
        if f"class {name}(" in text:
            return DiffusersPipeline(name, _params(ast.parse(text), name))
    return None


@cache
def _root() -> Path | None:
    spec = importlib.util.find_spec("diffusers")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    return Path(folders[0]) if folders else None


@cache
def _modules(root: Path) -> dict[str, str]:
    """Public classes and the folder of each, from diffusers' imports for type checkers."""
    tree = ast.parse((root / "pipelines" / "__init__.py").read_text(encoding="utf-8"))
    return {
        alias.name: node.module
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1 and node.module and node.module not in TOOLS
        for alias in node.names
    }


def _params(tree: ast.Module, name: str) -> frozenset[str] | None:
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
