"""The parts of a loaded picture model: its weights, and which of them are held at a time."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import mlx.core as mx

from models.layers.attention import on_cpu
from models.vae.latent_codec import LatentCodec
from models.vision.interface import SeenPicture
from pipelines.adapters import Adaptable, ModelAdapters
from pipelines.base import AdapterChoice, DeviceMemory, ImageRequest
from pipelines.components import Component, load_all
from pipelines.mlx_memory import MEGAPIXEL, MlxMemory, inflight_limit
from pipelines.prompt_embeds import PromptEmbeds, PromptEmbedsCache
from pipelines.settings import VAE_BYTES, Progress, Settings


class ModelParts(ABC):
    """A subclass's __init__ builds the components from the checkpoint's configs; `load_parts` reads their weights."""

    memory: DeviceMemory = MlxMemory()
    model_name: ClassVar[str] = "a model without adapters"
    encoders: tuple[Component[Any], ...]
    transformer: Component[Any]
    vae: Component[Any]  # holds a LatentCodec

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        # The CPU always convolves in strips: no slower, in a fraction of the memory.
        self.strips = settings.vae_strips or (VAE_BYTES if on_cpu() else None)
        self.prompt_cache = PromptEmbedsCache(settings.embedding_bytes)

    @cached_property
    def adapters(self) -> ModelAdapters:
        return ModelAdapters(self.model_name, self.adaptable(), self.settings.adapter_bytes)

    def adaptable(self) -> Mapping[str, Adaptable]:
        """The components that adapters may change, by the names of their folders."""
        return {}

    def use_adapters(self, adapters: Sequence[AdapterChoice]) -> tuple[str, ...]:
        """Put these adapters beside the weights, in place of those before; returns warnings."""
        return self.adapters.use(adapters) if adapters or "adapters" in self.__dict__ else ()

    def load_parts(self, progress: Progress) -> None:
        """Load the weights. A staged model loads its largest parts later, and only checks them now."""
        if not self.settings.staged:
            shares = dict.fromkeys(self.encoders, 0.45 / len(self.encoders))
            load_all({**shares, self.transformer: 0.5, self.vae: 0.05}, progress)
            return
        for component in (*self.encoders, self.transformer):
            component.check()
        self.vae.load(progress)

    def make_room(self) -> None:
        """Release what a staged model does not need while it encodes."""
        self.transformer.drop()

    @property
    def codec(self) -> LatentCodec:
        codec: LatentCodec = self.vae()
        return codec

    @property
    def unloaded_bytes(self) -> int:
        """What a staged model still has to load beside what it holds: the larger of the parts that are loaded in turn."""
        held = sum(part.bytes for part in (*self.encoders, self.transformer) if part.held)
        largest = max(sum(part.bytes for part in self.encoders), self.transformer.bytes)
        return max(0, largest - held)

    def full_prompt(self, request: ImageRequest) -> str:
        """The prompt with what else a request says in words."""
        return request.prompt

    @abstractmethod
    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """The text encoders' output for a prompt, unevaluated."""

    def encode_prompt_with(self, prompt: str, pictures: Sequence[SeenPicture]) -> PromptEmbeds:
        """The same for an encoder that sees pictures beside its prompts."""
        raise NotImplementedError(f"the text encoder of {self.model_name} does not see pictures")

    def encode_prompts(
        self, texts: Sequence[str], pictures: Sequence[SeenPicture] = ()
    ) -> list[PromptEmbeds]:
        """From the cache where possible. The result may still be in flight, unless its encoder has to make room."""
        cached = {text: self.prompt_cache.get(self._cache_key(text, pictures)) for text in texts}
        if self.settings.staged and None in cached.values():
            self.make_room()
        prompts = [cached[text] or self._encode(text, pictures) for text in texts]
        if self.settings.staged:
            mx.eval([embeds.arrays for embeds in prompts])
            for encoder in self.encoders:
                encoder.drop()
        return prompts

    def _encode(self, text: str, pictures: Sequence[SeenPicture]) -> PromptEmbeds:
        embeds = self.encode_prompt_with(text, pictures) if pictures else self.encode_prompt(text)
        with inflight_limit(MEGAPIXEL, self.settings.staged):
            mx.async_eval(embeds.arrays)
        self.prompt_cache.put(self._cache_key(text, pictures), embeds)
        return embeds

    def _cache_key(self, text: str, pictures: Sequence[SeenPicture]) -> tuple[object, ...]:
        """A prompt's states depend on the adapters of its encoders, and on the pictures that they see."""
        adapters = self.adapters.encoders if "adapters" in self.__dict__ else ()
        return (text, adapters, tuple(picture.digest for picture in pictures))
