"""The latents that a picture starts from: noise, or a noised input picture, of which a mask keeps a part."""

from typing import ClassVar

import mlx.core as mx
import numpy as np
from PIL import Image

from models.layers.patchify import patchify, unpatchify
from pipelines.base import ImageRequest, Mask, Plan, Size
from pipelines.denoise_state import Conditioning, DenoisePlan, KeptLatents, PictureInputs
from pipelines.images import drawn_size, to_start
from pipelines.inpaint import Canvas, inpaints
from pipelines.latents import Noise
from pipelines.model_parts import ModelParts
from pipelines.planning import Defaults
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.sampling import add_noise
from pipelines.variations import slerp

HALVES = (mx.float16, mx.bfloat16)


class InitLatents(ModelParts):
    """Pictures and noise as latents and tokens; a family overrides how its reference encodes and masks."""

    defaults: Defaults
    # Latents along one side of a token; FLUX.2's codec makes patches already.
    patch: int = 2
    channels_first: ClassVar[bool] = True

    @property
    def features(self) -> int:
        """Features of a token."""
        return self.codec.channels * self.patch**2

    def shown_sizes(self, request: ImageRequest, plan: Plan) -> list[Size]:
        """Of the pictures that the model looks at, a masked one among them."""
        looked_at = request.image_sizes if plan.strength is None else request.image_sizes[1:]
        sizes = [drawn_size(*size, self.defaults.size_multiple) for size in looked_at]
        if inpaints(request) and self.defaults.supports_editing:
            sizes.append((plan.width, plan.height))
        return sizes

    def latent_dtype(self, run: DenoisePlan, embeds: PromptEmbeds) -> mx.Dtype:
        """The precision that the noise is drawn in."""
        return embeds.states[0].dtype

    def encode_image(self, picture: mx.array, noise: Noise) -> mx.array:
        """Latents of the picture to start from, sampled from the codec's distribution."""
        _, height, width, _ = picture.shape
        return self.codec.encode(picture, mx.array(self.draw_sample(noise, 1, width, height)), self.strips)

    def draw_sample(self, noise: Noise, count: int, width: int, height: int) -> np.ndarray:
        """Numbers to sample the latents of so many pictures with."""
        codec = self.codec
        rows, columns = height // codec.scale, width // codec.scale
        return noise.pictures(count, codec.channels, rows, columns, codec.dtype in HALVES)

    def draw_control(
        self, run: DenoisePlan, noise: Noise, dtype: mx.Dtype
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """The noise of all pictures, and numbers to sample the control latents with, in the reference's order."""
        return self.draw_noise(run, noise, dtype), None

    def control(self, run: DenoisePlan, canvas: Canvas | None, sample: np.ndarray | None) -> mx.array | None:
        """What the transformer is given of a picture beside each token, [1 or picture, token, feature]."""
        return None

    def mask_latents(self, mask: Mask) -> np.ndarray:
        """[row, column], from 0 (kept) to 1 (drawn anew): as the mask's first pixel in each latent."""
        return mask[:: self.codec.scale, :: self.codec.scale].astype(np.float32)

    def draw_noise(self, run: DenoisePlan, noise: Noise, dtype: mx.Dtype) -> np.ndarray:
        """Of all pictures, [picture, row, column, channel]. A variation's is turned towards that of its seed."""
        rows, columns = run.rows * self.patch, run.columns * self.patch
        shape = (run.request.n, self.codec.channels, rows, columns, dtype in HALVES)
        drawn = noise.pictures(*shape)
        if run.variation is None:
            return drawn
        return slerp(drawn, Noise(run.variation.seed).pictures(*shape), run.variation.strength)

    def init_latents(self, run: DenoisePlan, canvas: Canvas | None, noise: Noise) -> mx.array | None:
        """Latents of the picture to start from, if there is one."""
        if run.plan.strength is None:
            return None
        picture = run.request.images[0] if canvas is None else canvas.drawn(run.plan)[0]
        pixels = to_start(Image.fromarray(picture), run.plan.width, run.plan.height)
        return self.encode_image(mx.array(pixels), noise)

    def mask_tokens(self, run: DenoisePlan, canvas: Canvas | None) -> mx.array | None:
        """The mask as tokens, [1, token, feature]."""
        if canvas is None:
            return None
        _, mask = canvas.drawn(run.plan)
        latents: np.ndarray = self.mask_latents(mask)
        if not latents.any():  # strokes so thin that they fall between the samples
            scale = self.codec.scale
            cells = mask.reshape(mask.shape[0] // scale, scale, mask.shape[1] // scale, scale)
            latents = np.any(cells, axis=(1, 3)).astype(np.float32)
        channels = np.broadcast_to(latents[None, ..., None], (1, *latents.shape, self.codec.channels))
        return self.to_tokens(mx.array(channels))

    def first_tokens(
        self, run: DenoisePlan, conditioning: Conditioning, index: int
    ) -> tuple[mx.array, PictureInputs]:
        """One picture's tokens at the first noise level, [1, token, feature], and what its steps take beside them."""
        dtype, control = conditioning.dtype, conditioning.control
        if control is not None and len(control) > 1:
            control = control[index : index + 1]
        noise = self.to_tokens(mx.array(conditioning.noise[index : index + 1]).astype(dtype))
        if conditioning.init_latents is None:
            return noise, PictureInputs(None, control, index)
        clean = self.to_tokens(conditioning.init_latents.astype(dtype))
        tokens = add_noise(clean, noise, float(run.schedule.sigmas[0])).astype(dtype)
        mask = conditioning.mask
        kept = None if mask is None else KeptLatents(mask.astype(dtype), clean, noise)
        return tokens, PictureInputs(kept, control, index)

    def to_tokens(self, latents: mx.array) -> mx.array:
        return patchify(latents, self.patch, self.channels_first).flatten(1, 2)

    def to_latents(self, run: DenoisePlan, tokens: mx.array) -> mx.array:
        patches = tokens.reshape(len(tokens), run.rows, run.columns, -1)
        return unpatchify(patches, self.patch, self.channels_first)
