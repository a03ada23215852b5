"""What the klein models of FLUX.2 and FLUX.3 share: patches made by the autoencoder, reference pictures, distilled and base
variants.

Pictures without a strength are references for editing. With a strength, the first picture is the start of an image-to-image
run, and the others are references. With a mask it is both.
"""

from dataclasses import replace

import mlx.core as mx
import numpy as np
from PIL import Image

from pipelines.base import ImageRequest, Mask, Pixels, Plan
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.images import to_reference
from pipelines.latents import Noise
from pipelines.sampling import Schedule


class Klein(DenoisingPipeline):
    patch = 1

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        if not self.variant.distilled:
            return plan
        given = {
            "guidance": (request.guidance or 0) > 1,
            "negative_prompt": request.negative_prompt,
            "guidance_until": request.guidance_until is not None,
        }
        ignored = tuple(
            f"{name} has no effect: this model is distilled"
            for name in self.variant.ignored_params
            if given[name]
        )
        return replace(plan, guidance=None, warnings=(*plan.warnings, *ignored))

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if plan.guidance is not None and plan.guidance > 1 else 0

    def references(self, run: DenoisePlan) -> list[mx.array]:
        images = run.request.images if run.plan.strength is None else run.request.images[1:]
        shown = (self.shown(run.plan, image, len(images)) for image in images)
        return [self.codec.encode(mx.array(picture), strips=self.strips) for picture in shown]

    def shown(self, plan: Plan, image: Pixels, count: int) -> np.ndarray:
        """One of so many reference pictures, as the autoencoder is given it."""
        return to_reference(Image.fromarray(image), self.defaults.size_multiple)

    def encode_image(self, picture: mx.array, noise: Noise) -> mx.array:
        """The most likely latents, as for references."""
        return self.codec.encode(picture, strips=self.strips)

    def mask_latents(self, mask: Mask) -> np.ndarray:
        """The mean of the four pixels in the middle of each token, as the reference interpolates."""
        side = self.codec.scale
        middle = mask.astype(np.float32)
        for axis in (0, 1):
            middle = middle.take(range(side // 2 - 1, middle.shape[axis], side), axis) + middle.take(
                range(side // 2, middle.shape[axis], side), axis
            )
        return middle / np.float32(4)
