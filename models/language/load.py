"""A checkpoint's files to a language model: network with weights, tokenizer, limits."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mlx.core as mx
import mlx.nn as nn
from mlx_lm import utils as mlx_utils
from mlx_lm.models import cache as mlx_cache

from models.adapters.adapter_file import AdapterError
from models.checkpoint.gguf.shard import GGUFShard, Precision, of_tower
from models.checkpoint.gguf.tensors import packed_layers, unpacked_size
from models.checkpoint.safetensors import WeightsError
from models.checkpoint.unpack import still_packed, unpacked_note
from models.checkpoint.weights import evaluate, read_shards
from models.files import LocalModel, LoraFile
from models.kernels.gpu import on_cuda
from models.language.architectures import max_context
from models.language.build import DEFAULT_CONTEXT, LoadError, build, parameters, read_config
from models.language.cache import kv_cache
from models.language.cache.kv_cache import Cache
from models.language.cache.quantized_kv import KVCacheNotQuantizable, check_quantizable, quantized_row
from models.language.decode.matmul import patch_matmul
from models.language.distributed.sharding import shard
from models.language.gguf.metadata import GGUFError
from models.language.lora import add_loras
from models.language.pictures.inputs import embedding_of
from models.language.unpack import is_quantized, unpack, unpacked_bytes
from models.tokenizers.ollama_tokenizer import read_go_template, use_go_template
from models.tokenizers.template_location import TEMPLATE_FILE, find_template
from models.vision import has_tower, loader, sees
from models.vision.interface import VisionModel


@dataclass
class LanguageModel:
    """`vocab` is the width of the logits; the tokenizer may have fewer tokens, or more."""

    name: str
    folder: Path
    model: nn.Module
    tokenizer: Any
    config: dict[str, Any]
    vocab: int
    context: int
    stop_tokens: frozenset[int]
    kv_bits: int | None = None
    kv_group: int = 64
    notes: list[str] = field(default_factory=list)  # decisions made while loading
    warnings: list[str] = field(default_factory=list)  # problems worth reporting
    vision: VisionModel | None = None  # of a model that sees pictures

    def bytes_per_token(self) -> int:
        """What one token of a text takes in its cache; on one rank, in that rank's share."""
        cache = self.new_cache()
        self.model(mx.zeros((1, 1), dtype=mx.uint32), cache=cache)  # sizes are known without evaluation
        return kv_cache.bytes_per_token(cache)

    def new_cache(self) -> Cache:
        """An empty single cache, quantized if `kv_bits` is set."""
        cache: Cache = mlx_cache.make_prompt_cache(self.model)
        if self.kv_bits is None:
            return cache
        return [quantized_row(layer, self.kv_group, self.kv_bits) for layer in cache]


def load(
    local: LocalModel,
    *,
    float32: bool = False,
    kv_bits: int | None = None,
    context: int | None = None,
    progress: Callable[[float], None] = lambda _: None,
    group: mx.distributed.Group | None = None,
    room: int | None = None,
    loras: Sequence[LoraFile] = (),
) -> LanguageModel:
    """Load everything on the calling thread, which owns the arrays from then on; with a group, only this rank's share.

    `room`: dequantize to float32, for a processor, if that takes at most this many bytes; None: never. `loras`: adapters
    beyond the model's own.
    """
    notes: list[str] = []
    precision = _gguf_precision(local, float32, room if group is None else None, notes)
    model, config = build(local, precision, notes)
    adapted, warnings = _adapt(local.name, model, float32, group, room)
    notes += [*adapted, *_add_loras(local, model, config, loras, group)]
    vision = None if group is not None else _vision(local, model, precision, notes)
    tokenizer = _read(local.folder, config, _Networks(model, vision), progress)
    model.eval()
    if group is not None:  # ready when all are
        mx.eval(mx.distributed.all_sum(mx.zeros(1), group=group))
    limit = max_context(config) or DEFAULT_CONTEXT
    loaded = LanguageModel(
        name=local.name,
        folder=local.folder,
        model=model,
        tokenizer=tokenizer,
        config=config,
        vocab=_vocabulary(local.name, model),
        context=min(context, limit) if context else limit,
        stop_tokens=_stop_tokens(local.folder, tokenizer, config),
        kv_bits=kv_bits,
        notes=notes,
        warnings=warnings,
        vision=vision,
    )
    if kv_bits is not None:
        _choose_group(loaded)
    return loaded


def _gguf_precision(local: LocalModel, float32: bool, room: int | None, notes: list[str]) -> Precision:
    """What the weights of a GGUF become. Unpacked from the file's own blocks they are exact, which repacked ones may not
    be. Of safetensors, which are read as they are, nothing is decided here."""
    shards = [shard for shard in local.shards("") if isinstance(shard, GGUFShard)]
    if shards and room is not None and (needed := unpacked_size(shards)) <= room:
        if layers := packed_layers(shards):
            notes.append(unpacked_note(layers, needed))
        return "unpacked"
    return "float32" if float32 else "half"


def _adapt(
    name: str, model: nn.Module, float32: bool, group: mx.distributed.Group | None, room: int | None
) -> tuple[list[str], list[str]]:
    """Adapt the weights to the device, before any is read; notes and warnings about it."""
    notes: list[str] = []
    warnings: list[str] = []
    if room is not None and group is None and is_quantized(model):
        _unpack(model, room, notes, warnings)
    if float32 and not is_quantized(model) and _widen(model):
        notes.append("half-precision weights are converted to float32: processors have no fast path for them")
    if group is not None:
        shard(name, model, group)
        notes.append(f"sharded over {group.size()} processes; this is rank {group.rank()}")
    if on_cuda():
        patch_matmul(model)
    return notes, warnings


def _add_loras(
    local: LocalModel,
    model: nn.Module,
    config: dict[str, Any],
    loras: Sequence[LoraFile],
    group: mx.distributed.Group | None,
) -> list[str]:
    loras = (*local.loras, *loras)
    if loras and group is not None:
        raise LoadError(f"{local.name}: a model over several processes cannot have LoRA adapters")
    if not loras:
        return []
    dtype = embedding_of(model)(mx.zeros((1,), mx.uint32)).dtype  # known without evaluation
    try:
        return add_loras(local.name, model, config, loras, dtype)
    except (AdapterError, GGUFError, WeightsError, OSError) as error:
        raise LoadError(str(error)) from error


class _Networks(nn.Module):
    """All that is read from the files."""

    def __init__(self, text: nn.Module, vision: VisionModel | None) -> None:
        super().__init__()
        self.text = text
        if vision is not None:
            self.vision = vision.network


def _vision(
    local: LocalModel, model: nn.Module, precision: Precision, notes: list[str]
) -> VisionModel | None:
    """What the model sees pictures with, if it is of a kind that does."""
    config = read_config(local.folder / "config.json")
    if not sees(config):
        return None
    shards = of_tower(local.shards(""))
    weights = read_shards(local.name, shards, precision) if shards else {}
    if not has_tower(weights):
        notes.append("its files have no vision tower, so it reads only text")
        return None
    dtype = embedding_of(model)(mx.zeros((1,), mx.uint32)).dtype  # known without evaluation
    declared = config["vision_config"]
    for name in ("depth", "num_hidden_layers"):
        # The tower creates its layers one by one: a billion of them would fill the memory.
        if isinstance(declared.get(name), int) and declared[name] > len(weights):
            raise LoadError(
                f"{local.name}: what it sees pictures with has {declared[name]} layers, but its files have {len(weights)} tensors"
            )
    try:
        vision = loader(config)(config, local.folder, weights, dtype)
    except (ValueError, LookupError, TypeError) as error:
        raise LoadError(f"{local.name}: what it sees pictures with cannot be loaded: {error}") from error
    vision.network.eval()
    return vision


def _read(folder: Path, config: dict[str, Any], model: nn.Module, progress: Callable[[float], None]) -> Any:
    """The weights, and meanwhile, on a thread of its own, the tokenizer, which takes up to a second and is returned."""
    with ThreadPoolExecutor(1, thread_name_prefix="tokenizer") as thread:
        tokenizer = thread.submit(_tokenizer, folder, config)

        def report(done: float) -> None:
            if tokenizer.done():
                tokenizer.result()  # an error ends the load at once
            progress(done)

        evaluate(model, report)
        return tokenizer.result()


def _unpack(model: nn.Module, room: int, notes: list[str], warnings: list[str]) -> None:
    """A processor is many times faster in float32, which takes up to eight times the memory."""
    needed = unpacked_bytes(model)
    if needed > room:
        warnings.append(still_packed(needed, room))
        return
    layers = unpack(model)
    if layers:
        model.set_dtype(mx.float32)
        notes.append(unpacked_note(len(layers), needed))


def _choose_group(loaded: LanguageModel) -> None:
    """The quantization group size must divide the head size; a cache that cannot be quantized is an error right away."""
    for loaded.kv_group in (64, 32):
        try:
            check_quantizable(loaded.model, loaded.new_cache())
            return
        except KVCacheNotQuantizable as error:
            reason = error
    raise reason


def _widen(model: nn.Module) -> bool:
    """Convert half precision to float32; whether there was any."""
    halves = [p for _, p in parameters(model) if p.dtype in (mx.float16, mx.bfloat16)]
    if halves:
        model.set_dtype(mx.float32)
    return bool(halves)


def _tokenizer(folder: Path, config: dict[str, Any]) -> Any:
    settings: dict[str, Any] = {"trust_remote_code": False}
    try:
        go_template = read_go_template(folder)
        if (template := go_template or processor_template(folder)) is not None:
            settings["chat_template"] = template
        tokenizer = mlx_utils.load_tokenizer(folder, settings, eos_token_ids=config.get("eos_token_id"))
    except Exception as error:
        raise LoadError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
    return tokenizer if go_template is None else use_go_template(tokenizer, go_template)


def processor_template(folder: Path) -> str | None:
    """The chat template of models that see, where only the file of their processor has one, which tokenizers do not read."""
    own, file = folder / "tokenizer_config.json", folder / "chat_template.json"
    if not file.is_file() or (folder / TEMPLATE_FILE).exists():
        return None
    if own.is_file() and "chat_template" in read_config(own):
        return None
    template = read_config(file)
    return find_template(None, [template]) if isinstance(template, dict) else None


def _vocabulary(name: str, model: nn.Module) -> int:
    try:
        return int(
            model(mx.zeros((1, 1), dtype=mx.uint32)).shape[-1]
        )  # the shape is known without evaluation
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise LoadError(f"{name}: the network that config.json describes cannot be run: {error}") from error


def _stop_tokens(folder: Path, tokenizer: Any, config: dict[str, Any]) -> frozenset[int]:
    """The end-of-text tokens of the tokenizer, config.json and generation_config.json together."""
    tokens = set(tokenizer.eos_token_ids)
    file = folder / "generation_config.json"
    generation = read_config(file) if file.exists() else {}
    nested = config.get("text_config")
    for source in (config, nested if isinstance(nested, dict) else {}, generation):
        ids = source.get("eos_token_id") if isinstance(source, dict) else None
        tokens |= set(ids if isinstance(ids, list) else [ids])
    return frozenset(token for token in tokens if isinstance(token, int))
