"""Assembles a diffusers pipeline from a checkpoint's components, each loaded from safetensors and checked.

Only classes of diffusers and transformers are used, and only local files; pickles and a model's own code are never opened.
"""

import logging
import re
from collections import Counter
from collections.abc import Mapping
from importlib.util import find_spec
from typing import Any

import diffusers
import torch
import transformers

from models.checkpoint.safetensors import read_header
from models.config import read_json
from models.files import LocalModel
from pipelines.fallback import catalog
from pipelines.settings import Progress

# `model.fp16.safetensors`, `diffusion_pytorch_model.fp16-00001-of-00002.safetensors`
VARIANT = re.compile(r"[a-z_]+(?:-\d+-of-\d+)?\.([A-Za-z0-9_]+)(?:-\d+-of-\d+)?\.safetensors")
LONGEST = 600  # characters of another library's message
LOCAL = {"local_files_only": True}
# Without accelerate networks are initialized with random numbers first, which takes time and memory.
LAZILY = {"low_cpu_mem_usage": find_spec("accelerate") is not None}


class FallbackError(ValueError):
    """A checkpoint that diffusers cannot run; the message names the component and the reason."""


# The kinds of components. Other classes load other files: pickles, whole pipelines, networks chosen by a config.
COMPONENTS = (
    diffusers.ModelMixin,
    diffusers.SchedulerMixin,
    transformers.PreTrainedModel,
    transformers.PreTrainedTokenizerBase,
    transformers.FeatureExtractionMixin,
    transformers.image_processing_base.ImageProcessingMixin,
    transformers.ProcessorMixin,
    transformers.AutoTokenizer,
    transformers.AutoProcessor,
)
# Former class names that model_index.json files still have.
RENAMED = {"CLIPFeatureExtractor": "CLIPImageProcessor"}


def load(model: LocalModel, name: str, dtype: torch.dtype, device: torch.device, progress: Progress) -> Any:
    """The pipeline of diffusers' class `name`, on the device."""
    index = read_json(model.folder / "model_index.json")
    if reason := catalog.refusal(name, index):
        raise FallbackError(f"{model.name} cannot be run by diffusers: {reason}")
    if getattr(diffusers, name)._load_connected_pipes:
        raise FallbackError(f"{name} is put together of several models; only single models are supported")
    _be_quiet()
    sizes = {
        part: sum(shard.path.stat().st_size for shard in model.shards(part))
        for part, *_ in catalog.parts(index)
    }
    total, done = sum(sizes.values()) or 1, 0
    components: dict[str, Any] = dict.fromkeys(catalog.left_out(index))
    for part, library, kind in catalog.parts(index):
        components[part] = _load(model, part, _class(library, kind), dtype, device)
        done += sizes[part]
        progress(done / total)
    return _assembled(model, name, components)


def stored_dtype(model: LocalModel) -> str | None:
    """The dtype of most of the weights."""
    sizes: Counter[str] = Counter()
    for part, *_ in catalog.parts(read_json(model.folder / "model_index.json")):
        for shard in model.shards(part):
            for info in read_header(shard.path).tensors.values():
                sizes[info.dtype] += info.nbytes
    return sizes.most_common(1)[0][0] if sizes else None


def _be_quiet() -> None:
    """Diptych shows the progress, and prompts, which diffusers quotes in its warnings, do not belong in a log."""
    diffusers.utils.logging.disable_default_handler()
    logging.getLogger("diffusers").addHandler(logging.NullHandler())
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()  # its warnings suggest other packages to install


def _class(library: str, name: str) -> Any:
    """A component's class, from the places that `catalog` allows."""
    home = {"diffusers": diffusers, "transformers": transformers}.get(library)
    if home is None:
        home = getattr(diffusers.pipelines, library, None)
    kind = getattr(home, RENAMED.get(name, name), None)
    if not isinstance(kind, type):
        raise FallbackError(f"the installed {library} has no class {name}")
    if missing := getattr(kind, "_backends", None):  # a placeholder for a class that could not be imported
        raise FallbackError(
            f"{library}'s {name} needs packages that are not installed: {', '.join(map(str, missing))}"
        )
    if not issubclass(kind, COMPONENTS):
        raise FallbackError(
            f"{library}'s {name} is not a component; networks, schedulers, tokenizers and processors are"
        )
    return kind


def _load(model: LocalModel, part: str, kind: Any, dtype: torch.dtype, device: torch.device) -> Any:
    folder = model.folder / part
    if not folder.is_dir():
        raise FallbackError(f"model_index.json lists {part}, but {model.name} has no folder {part}")
    try:
        if not issubclass(kind, torch.nn.Module):
            code = {"trust_remote_code": False} if kind.__module__.startswith("transformers.") else {}
            return kind.from_pretrained(str(folder), **LOCAL, **code)
        return _network(model, part, kind, dtype).to(device)
    except FallbackError:
        raise
    # These libraries raise anything for a component that they cannot load.
    except Exception as error:
        raise FallbackError(f"{part} ({kind.__name__}) cannot be loaded: {one_line(error)}") from error


def _network(model: LocalModel, part: str, kind: Any, dtype: torch.dtype) -> Any:
    shards = model.shards(part)
    for shard in shards:
        read_header(shard.path)  # its errors name the damaged file and the damage
    variants = {match[1] for shard in shards if (match := VARIANT.fullmatch(shard.path.name))}
    network, info = kind.from_pretrained(
        str(model.folder / part),
        dtype=dtype,
        use_safetensors=True,
        variant=min(variants, default=None),
        output_loading_info=True,
        **(LAZILY if issubclass(kind, diffusers.ModelMixin) else {}),
        **LOCAL,
    )
    _check(part, info)
    return network.eval()


def _check(part: str, info: Mapping[str, Any]) -> None:
    """Weights that are missing in the files would be random numbers."""
    for key, what in (("missing_keys", "lacks"), ("mismatched_keys", "has in another shape")):
        names = sorted(str(name) for name in info.get(key) or ())
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise FallbackError(f"{part} {what} {', '.join(names[:5])}{more}")
    if errors := info.get("error_msgs"):
        raise FallbackError(f"{part} cannot be loaded: {str(errors)[:LONGEST]}")


def _assembled(model: LocalModel, name: str, components: Mapping[str, Any]) -> Any:
    try:
        pipeline = getattr(diffusers, name).from_pretrained(
            str(model.folder), **components, **LOCAL, **LAZILY, use_safetensors=True, trust_remote_code=False
        )
    except Exception as error:  # as above
        raise FallbackError(f"{name} cannot be put together: {one_line(error)}") from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def one_line(error: BaseException) -> str:
    """Another library's message as one line of bounded length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
