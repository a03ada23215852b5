"""FLUX.1 Fill: FLUX.1 that was trained to fill in masks. It is given the picture without what the mask hides, and the mask,
beside each token."""

import mlx.core as mx
import numpy as np
from PIL import Image

from models.layers.patchify import patchify
from models.vae.config import AutoencoderKLConfig
from pipelines import PIPELINES
from pipelines.base import ImageRequest, PipelineError, Plan
from pipelines.denoise_state import DenoisePlan
from pipelines.flux import Flux
from pipelines.images import to_start
from pipelines.inpaint import Canvas, inpaints
from pipelines.latents import Noise


class FluxFill(Flux):
    model_name = "FLUX.1 Fill"
    family = PIPELINES["FluxFillPipeline"]

    @classmethod
    def in_channels(cls, vae: AutoencoderKLConfig) -> tuple[int, str]:
        return (
            8 * vae.latent_channels + 4 * vae.scale**2,
            "two patches of the autoencoder's latent_channels and the pixels of a token",
        )

    def warmup_request(self) -> ImageRequest:
        side = self.defaults.side
        picture, mask = np.zeros((side, side, 3), np.uint8), np.ones((side, side), np.bool_)
        return ImageRequest("", seed=1, steps=1, images=(picture,), mask=mask)

    def plan(self, request: ImageRequest) -> Plan:
        if not inpaints(request):
            raise PipelineError(
                "mask: this model fills in a mask or a margin (outpaint); one of them is needed"
            )
        return super().plan(request)

    def draw_control(
        self, run: DenoisePlan, noise: Noise, dtype: mx.Dtype
    ) -> tuple[np.ndarray, np.ndarray | None]:
        drawn = self.draw_noise(run, noise, dtype)
        return drawn, self.draw_sample(noise, 1, run.plan.width, run.plan.height)

    def control(self, run: DenoisePlan, canvas: Canvas | None, sample: np.ndarray | None) -> mx.array | None:
        if canvas is None or sample is None:
            return None
        picture, mask = canvas.drawn(run.plan)
        pixels = to_start(Image.fromarray(picture), run.plan.width, run.plan.height) * ~mask[..., None]
        latents = self.codec.encode(mx.array(pixels), mx.array(sample), self.strips)
        hidden = patchify(mx.array(mask.astype(np.float32))[None, ..., None], self.codec.scale)
        return mx.concatenate([self.to_tokens(latents).astype(mx.float32), self.to_tokens(hidden)], axis=-1)

    def mask_tokens(self, run: DenoisePlan, canvas: Canvas | None) -> mx.array | None:
        """The network keeps the rest itself."""
        return None
