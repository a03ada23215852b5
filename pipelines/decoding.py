"""From latents to pixels: by the model's autoencoder, or where that is asked for, and for previews, by a tiny one beside it."""

from typing import Any, ClassVar

import mlx.core as mx

from models.checkpoint.weights import WeightsError
from models.config import ConfigError
from models.files import LocalModel
from models.vae.autoencoder_tiny import WEIGHTS, TinyDecoder, TinyDecoderConfig
from pipelines.base import ImageRequest, PipelineError
from pipelines.components import Component
from pipelines.denoise_state import DenoisePlan
from pipelines.images import to_bytes
from pipelines.init_latents import InitLatents
from pipelines.settings import Settings

FOLDER = "vae_tiny"  # in a model's own folder
KIND = "AutoencoderTiny"
PREVIEW_SIDE = 256


class Decoding(InitLatents):
    """A family whose latents a tiny autoencoder knows names its repo on the hub."""

    tiny_vae_repo: ClassVar[str] = ""
    tiny: TinyDecoder | None = None
    _tiny_fault: str = ""  # why one that is there by chance is not used

    def load_tiny(self, model: LocalModel) -> None:
        """The model's own, the chosen one, or the usual one where it is on this machine."""
        if not self.tiny_vae_repo:
            if self.settings.tiny_vae is not None and self.settings.tiny_vae_chosen:
                raise ConfigError("tiny_vae: this model's latents have no tiny autoencoder")
            return
        own = model.read_json(f"{FOLDER}/config.json")
        if own is not None:
            self.tiny = self._tiny(model, FOLDER, own)
            return
        source = self.settings.tiny_vae
        if source is None:
            return
        try:
            self.tiny = self._tiny(source, "", source.read_json("config.json") or {})
        except (ConfigError, WeightsError) as error:
            if self.settings.tiny_vae_chosen:
                raise
            self._tiny_fault = str(error)

    def _tiny(self, model: LocalModel, folder: str, values: dict[str, Any]) -> TinyDecoder:
        if values.get("_class_name") != KIND:
            raise ConfigError(f"tiny_vae: it is a {str(values.get('_class_name'))[:64]!r}; {KIND} is needed")
        config, codec = TinyDecoderConfig.from_dict(values), self.codec
        if (config.latent_channels, config.scale) != (codec.channels, codec.scale):
            raise ConfigError(
                f"tiny_vae: its latents have {config.latent_channels} channels and {config.scale} pixels a side, the model's "
                f"{codec.channels} and {codec.scale}: these do not belong together"
            )
        settings = Settings(dtype=self.settings.dtype)
        return Component(
            model, folder, lambda: (TinyDecoder(config), WEIGHTS), settings, quantized=False
        ).load()

    def check_decode(self, request: ImageRequest) -> None:
        """A PipelineError where the tiny autoencoder is asked for and is not there."""
        if request.decode is None or not self.tiny_vae_repo or self.tiny is not None:
            return
        raise PipelineError(
            f"decode: tiny needs a tiny autoencoder, and there is none: {self._tiny_fault or 'set tiny_vae in the configuration'}"
            f" (--tiny-vae {self.tiny_vae_repo}), or put one into the model's folder {FOLDER}"
        )

    def decoded(self, run: DenoisePlan, tokens: mx.array) -> mx.array:
        """The picture as bytes, [row, column, 3]; unevaluated, unless it is decoded in strips."""
        latents = self.to_latents(run, tokens)
        if self.tiny is not None and run.request.decode is not None:
            return to_bytes(self.tiny.decode(latents))[0]
        return to_bytes(self.codec.decode(latents, self.strips))[0]

    def preview(self, run: DenoisePlan, tokens: mx.array) -> mx.array:
        """A small one of how far the picture is, as bytes; unevaluated."""
        decoder = self.codec if self.tiny is None else self.tiny
        return to_bytes(decoder.preview(self.to_latents(run, tokens), PREVIEW_SIDE))[0]
