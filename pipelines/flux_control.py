"""FLUX.1 Canny and Depth: FLUX.1 that follows the edges or depths of a picture, given beside each token."""

from dataclasses import replace

import mlx.core as mx
import numpy as np
from PIL import Image

from models.vae.config import AutoencoderKLConfig
from pipelines import PIPELINES
from pipelines.base import ImageRequest, PipelineError, Plan
from pipelines.denoise_state import DenoisePlan
from pipelines.flux import Flux
from pipelines.images import to_start
from pipelines.inpaint import Canvas, inpaints
from pipelines.latents import Noise


class FluxControl(Flux):
    model_name = "FLUX.1 Control"
    family = PIPELINES["FluxControlPipeline"]

    @classmethod
    def in_channels(cls, vae: AutoencoderKLConfig) -> tuple[int, str]:
        return 8 * vae.latent_channels, "two patches of the autoencoder's latent_channels"

    def warmup_request(self) -> ImageRequest:
        side = self.defaults.side
        return ImageRequest("", seed=1, steps=1, images=(np.zeros((side, side, 3), np.uint8),))

    def plan(self, request: ImageRequest) -> Plan:
        if not request.images:
            raise PipelineError("images: this model needs a picture of edges or depths to follow")
        if request.strength is not None:
            raise PipelineError(
                "strength: this model follows its picture and does not start from it; leave it out"
            )
        if inpaints(request):
            raise PipelineError("mask, outpaint: this model follows its whole picture; leave them out")
        plan = super().plan(request)
        own, drawn = request.image_sizes[0], (plan.width, plan.height)
        return replace(plan, reduced=(min(own, drawn, key=lambda size: size[0] * size[1]),))

    def draw_control(
        self, run: DenoisePlan, noise: Noise, dtype: mx.Dtype
    ) -> tuple[np.ndarray, np.ndarray | None]:
        sample = self.draw_sample(noise, run.request.n, run.plan.width, run.plan.height)
        return self.draw_noise(run, noise, dtype), sample

    def control(self, run: DenoisePlan, canvas: Canvas | None, sample: np.ndarray | None) -> mx.array | None:
        """Each picture of a request has a sample of its own."""
        if sample is None:
            return None
        pixels = to_start(Image.fromarray(run.request.images[0]), run.plan.width, run.plan.height)
        picture = mx.array(pixels)
        latents = [self.codec.encode(picture, mx.array(one[None]), self.strips) for one in sample]
        return self.to_tokens(mx.concatenate(latents))
