"""FLUX.1 Kontext: FLUX.1 that looks at a picture while it draws, as tokens behind those of the noise."""

from dataclasses import replace

import mlx.core as mx
from msgspec import structs
from PIL import Image

from pipelines import PIPELINES
from pipelines.base import ImageRequest, Plan, Size
from pipelines.denoise_state import DenoisePlan
from pipelines.flux import Flux
from pipelines.images import to_start
from pipelines.inpaint import inpaints
from pipelines.latents import Noise

# The sizes that the model was trained on, for a model of 1024 pixels.
SIZES = (
    (672, 1568), (688, 1504), (720, 1456), (752, 1392), (800, 1328), (832, 1248), (880, 1184), (944, 1104), (1024, 1024),
    (1104, 944), (1184, 880), (1248, 832), (1328, 800), (1392, 752), (1456, 720), (1504, 688), (1568, 672),
)  # fmt: skip
SIDE = 1024


class FluxKontext(Flux):
    model_name = "FLUX.1 Kontext"
    family = PIPELINES["FluxKontextPipeline"]

    def plan(self, request: ImageRequest) -> Plan:
        """Without a size, pictures have the trained one whose shape is nearest to the input picture's."""
        edits = bool(request.images) and request.strength is None and not inpaints(request)
        if edits and not request.width and not request.height:
            width, height = self.trained_size(request.image_sizes[0])
            request = structs.replace(request, width=width, height=height)
        plan = super().plan(request)
        if not edits:
            return plan
        own = request.image_sizes[0]
        return replace(plan, reduced=(min(own, self.trained_size(own), key=lambda size: size[0] * size[1]),))

    def trained_size(self, size: Size) -> Size:
        multiple, scale = self.defaults.size_multiple, self.defaults.side / SIDE
        width, height = (side // multiple * multiple for side in size)
        _, width, height = min((abs(width / height - w / h), w, h) for w, h in SIZES)
        return int(width * scale) // multiple * multiple, int(height * scale) // multiple * multiple

    def references(self, run: DenoisePlan) -> list[mx.array]:
        if not run.request.images or run.plan.strength is not None:
            return []
        picture = Image.fromarray(run.request.images[0])
        pixels = to_start(picture, *self.trained_size(picture.size))
        return [self.codec.encode(mx.array(pixels), strips=self.strips)]

    def encode_image(self, picture: mx.array, noise: Noise) -> mx.array:
        """The most likely latents, as for references."""
        return self.codec.encode(picture, strips=self.strips)
