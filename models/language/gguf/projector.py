"""What a model in GGUF sees with: llama.cpp's mmproj file beside it, or the tower that Ollama puts into the same file."""

import re
from array import array
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from models.checkpoint.gguf.header import GGUFHeader, Tensor
from models.checkpoint.gguf.shard import Edit, GGUFShard, Half
from models.checkpoint.gguf.texts import Texts
from models.language.gguf import ollama
from models.language.gguf.metadata import Metadata
from models.language.gguf.towers import TOWERS, Tower, deepstack_blocks

_IN_BLOCK = re.compile(r"v\.blk\.(\d{1,6})\.([a-z0-9_]+)\.(weight|bias)")
_DEEPSTACK = re.compile(r"v\.deepstack\.(\d{1,6})\.(norm|fc1|fc2)\.(weight|bias)")
_DEEPSTACK_LAYERS = {"norm": "norm", "fc1": "linear_fc1", "fc2": "linear_fc2"}
_SWAPPED = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
# Fields of config.json that describe the whole model, not its text network.
_WHOLE = ("architectures", "dtype", "quantization")
# The text network inside a model that sees.
TEXT = "language_model."
_CONTROL, _LAST = 3, -1000.0  # the type and the score of a token that is added
TOKENS, TYPES, SCORES = (f"tokenizer.ggml.{key}" for key in ("tokens", "token_type", "scores"))


@dataclass(frozen=True)
class Projector:
    """`keys`: llama.cpp's names of the tensors, and those in the file. `own_file`: it is not that of the text network.
    `is_ollama`: as Ollama converts it, which leaves the rows of q and k as they are."""

    metadata: Metadata
    header: GGUFHeader
    keys: Mapping[str, str]
    own_file: bool
    is_ollama: bool

    @classmethod
    def of(cls, header: GGUFHeader, label: str) -> "Projector":
        """In a file of its own."""
        metadata = Metadata(header.metadata, {}, label)
        if metadata.architecture != "clip":
            raise metadata.refused(
                f"its projector has the architecture {metadata.architecture[:80]!r}; 'clip' is needed"
            )
        return cls(metadata, header, {key: key for key in header.tensors}, True, False)

    @classmethod
    def inside(cls, header: GGUFHeader, label: str) -> "Projector | None":
        """Beside the text network in the same file, if it is there."""
        if not ollama.has_tower(header.metadata, header.tensors):
            return None
        metadata = Metadata(ollama.clip_metadata(header.metadata), {}, label)
        return cls(metadata, header, ollama.clip_names(header.metadata, header.tensors), False, True)

    @cached_property
    def kind(self) -> str:
        """llama.cpp's name of it."""
        for key in ("clip.projector_type", "clip.vision.projector_type", "clip.audio.projector_type"):
            value = self.metadata.values.get(key)
            if isinstance(value, str) and value:
                return value[:80]
        return "unnamed"

    @cached_property
    def _found(self) -> Tower | None:
        if self.kind == "pixtral" and "mm.patch_merger.weight" not in self.keys:
            return None  # that of Pixtral itself, whose patches are not merged
        return TOWERS.get(self.kind)

    @property
    def tower(self) -> Tower:
        """Of a projector that fits."""
        assert self._found is not None
        return self._found

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """By llama.cpp's names."""
        return {name: self.header.tensors[key] for name, key in self.keys.items()}

    def why_not(self, text: Metadata) -> str:
        """Why a text network cannot see with it; "" if it can."""
        if self._found is None:
            return f"its projector is of the kind {self.kind!r}, which does not run here; these do: {', '.join(TOWERS)}"
        if text.architecture not in self.tower.models:
            return (
                f"its projector {self.kind!r} belongs to a text network of {' or '.join(self.tower.models)}, not of "
                f"{text.architecture[:80]!r}"
            )
        width, needed = self.metadata.count("vision.projection_dim"), text.count("embedding_length")
        # Of Qwen3-VL, some files count what the first layers are given as well.
        if width != needed and width % needed:
            return f"its projector makes rows of {width}, but its text network takes rows of {needed}"
        missing = [token for token in self.tower.tokens if _tokens(text).find(token) is None]
        if missing and not (missing == [self.tower.tokens[0]] and self.tower.added):
            return f"its vocabulary has no token {missing[0]!r}, which prompts with pictures need"
        return ""

    @cached_property
    def names(self) -> dict[str, str]:
        """The checkpoint's name of each tensor, by its key in the file."""
        used = {name: key for name, key in self.keys.items() if name not in self.tower.unused}
        names = {key: self._name(name, self.tower) for name, key in used.items()}
        unknown = sorted(key for key, name in names.items() if name is None)
        if unknown:
            shown = ", ".join(key[:80] for key in unknown[:6])
            raise self.metadata.refused(
                f"its projector has tensors that one of the kind {self.kind!r} does not have: {shown}"
            )
        return {key: name for key, name in names.items() if name is not None}

    def _name(self, name: str, tower: Tower) -> str | None:
        if name in tower.whole:
            return tower.whole[name]
        outside, _, kind = name.rpartition(".")
        if outside in tower.outside and kind in ("weight", "bias"):
            return f"{tower.outside[outside]}.{kind}"
        if block := _IN_BLOCK.fullmatch(name):
            layer = _SWAPPED.get(block[2], block[2]) if self._is_swapped else block[2]
            inner = tower.layers.get(layer)
            return inner and f"{tower.blocks}.{int(block[1])}.{inner}.{block[3]}"
        deep = _DEEPSTACK.fullmatch(name)
        if deep and tower.deepstack and int(deep[1]) in (blocks := deepstack_blocks(self.metadata)):
            return f"{tower.deepstack}.{blocks.index(int(deep[1]))}.{_DEEPSTACK_LAYERS[deep[2]]}.{deep[3]}"
        return None

    @cached_property
    def _is_swapped(self) -> bool:
        """Early converters exchanged the names of the two layers of the feed-forward network."""
        up, down = (self.tensors.get(f"v.blk.0.{layer}.weight") for layer in ("ffn_up", "ffn_down"))
        width = self.metadata.count("vision.embedding_length")
        return up is not None and down is not None and down.shape[-1] == width and up.shape[-1] != width

    @cached_property
    def edits(self) -> dict[str, Edit]:
        edits = {self.keys[name]: Edit("plus_one") for name in self.tower.plus_one if name in self.keys}
        if self.tower.pairs and not self.is_ollama:
            heads = self.metadata.count("vision.attention.head_count")
            for name, key in self.keys.items():
                block = _IN_BLOCK.fullmatch(name)
                if block and block[2] in ("attn_q", "attn_k"):
                    edits[key] = Edit("pairs", heads)
        return edits

    def config(self, text: Mapping[str, Any], text_metadata: Metadata) -> dict[str, Any]:
        """config.json of the whole model, around that of its text network."""
        self.names  # noqa: B018 - raises where tensors are strange
        model_type = self.tower.models[text_metadata.architecture]
        inner = {key: value for key, value in text.items() if key not in _WHOLE}
        if "qwen" in model_type:
            inner["model_type"] = f"{model_type}_text"
            inner["rope_parameters"] = {**text["rope_parameters"], **_sections(text_metadata)}
        return {
            **{key: text[key] for key in (*_WHOLE, "tie_word_embeddings") if key in text},
            "architectures": [self.tower.class_name],
            "model_type": model_type,
            "text_config": inner,
            "vision_config": self.tower.vision(self.metadata, self.tensors),
            "image_token_id": self._placeholder(text_metadata),
            **self.tower.fields(self.metadata, self.tensors),
        }

    def _placeholder(self, text: Metadata) -> int:
        """The id of the token that stands for a row of a picture."""
        place = _tokens(text).find(self.tower.tokens[0])
        return len(_tokens(text)) if place is None else place

    def vocabulary(self, text: Metadata) -> Mapping[str, Any]:
        """The metadata of the text network, with the token that stands for a row of a picture."""
        tokens, first = _tokens(text), self.tower.tokens[0]
        if tokens.find(first) is not None:
            return text.values
        longer: dict[str, Any] = {**text.values, TOKENS: [*tokens, first]}
        for key, value in ((TYPES, _CONTROL), (SCORES, _LAST)):
            values = text.values.get(key)
            if isinstance(values, array):
                longer[key] = array(values.typecode, [*values, value])
        return longer

    def pixels(self) -> dict[str, Any]:
        """preprocessor_config.json."""
        return self.tower.pixels(self.metadata, self.tensors)

    def shard(self, path: Path, half: Half) -> GGUFShard:
        return GGUFShard(path, self.names, self.edits, half, is_tower=True)


def _tokens(text: Metadata) -> Texts:
    tokens = text.values.get(TOKENS)
    return tokens if isinstance(tokens, Texts) else Texts(memoryview(b""), [], text.label)


def _sections(text: Metadata) -> dict[str, Any]:
    """How many channels turn with each axis; the format has a fourth axis, which is not used."""
    sections = text.wholes("rope.dimension_sections", [])
    return {"mrope_section": sections[:3]} if sections else {}
