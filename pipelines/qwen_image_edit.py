"""Qwen-Image-Edit: Qwen-Image that looks at pictures while it draws, and whose text encoder sees them too.

Each picture is looked at twice: by the text encoder within the prompt, and by the transformer as tokens behind the noise's.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
from msgspec import structs
from PIL import Image

from models.checkpoint.weights import WeightMap
from models.config import ConfigError
from models.files import LocalModel
from models.text_encoders.qwen2_5_vl import Qwen25VLConfig, Qwen25VLEncoder
from models.vision.interface import SeenPicture
from models.vision.qwen import BEGIN, END, IMAGE
from models.vision.qwen2_5_vl import Qwen25VisionConfig
from models.vision.qwen_processor import QwenProcessor
from models.vision.settings import processor_settings, section
from pipelines import PIPELINES
from pipelines.base import ImageRequest, PipelineError, Plan, Size
from pipelines.denoise_state import DenoisePlan
from pipelines.images import to_start
from pipelines.inpaint import Canvas, inpaints
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.qwen_image import QwenImage, of_any_length
from pipelines.settings import Settings
from pipelines.variants import config_of

TEMPLATE = (
    "<|im_start|>system\nDescribe the key features of the input image (color, shape, size, texture, objects, background), then "
    "explain how the user's text instruction should alter or modify the image. Generate a new image that meets the user's "
    "requirements while maintaining consistency with the original input where appropriate.<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n"
    "<|im_start|>assistant\n"
)
BEGINNING = 64
MULTIPLE = 32  # of the sides of pictures that are looked at
# Pictures that are larger are reduced to it first, rather than held as they are.
LARGEST = 2048 * 2048
LANCZOS = Image.Resampling.LANCZOS


class QwenImageEdit(QwenImage):
    """Of one picture, which the text encoder sees as large as the transformer does."""

    model_name = "Qwen-Image-Edit"
    family = PIPELINES["QwenImageEditPipeline"]
    template, beginning = TEMPLATE, BEGINNING

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        config = config_of(model, "text_encoder")
        self.vision = Qwen25VisionConfig.from_dict(section(config, "vision_config"))
        super().__init__(model, settings)
        self.processor = QwenProcessor.from_dict(processor_settings(model.folder / "processor"))
        self.processor.check(
            patch_size=self.vision.patch_size,
            temporal_patch_size=self.vision.temporal_patch_size,
            merge_size=self.vision.spatial_merge_size,
        )
        placeholder = Qwen25VLConfig.from_dict(config).image_token_id
        if self.tokenizer.backend.token_to_id(IMAGE) != placeholder:
            raise ConfigError(
                f"{self.tokenizer.folder} does not have {IMAGE} as token {placeholder}, which text_encoder's "
                "image_token_id says: these parts do not belong together"
            )
        self.area = self.seen_area = self.defaults.side**2
        unit = self.processor.patch_size * self.processor.merge_size
        seen = self.family.max_references * -(-self.seen_area // unit**2)
        self.dimensions = replace(self.dimensions, prompt=self.context + seen)

    def _encoder(self, config: Qwen25VLConfig) -> tuple[Qwen25VLEncoder, WeightMap]:
        encoder = Qwen25VLEncoder(config, self.vision)
        return encoder, encoder.weight_map

    def warmup_request(self) -> ImageRequest:
        side = self.defaults.side
        return structs.replace(super().warmup_request(), images=(np.zeros((side, side, 3), np.uint8),))

    def plan(self, request: ImageRequest) -> Plan:
        """Without a size, pictures have the shape of the last input picture."""
        self._check(request)
        edits = not inpaints(request)
        if edits:
            width, height = looked_size(request.image_sizes[-1], self.area)
            request = structs.replace(request, width=request.width or width, height=request.height or height)
        plan = super().plan(request)
        return replace(plan, reduced=tuple(map(_held_size, request.image_sizes))) if edits else plan

    def _check(self, request: ImageRequest) -> None:
        if not request.images:
            raise PipelineError("images: this model edits pictures; at least one is needed")
        if request.strength is not None and not inpaints(request):
            raise PipelineError(
                "strength: this model looks at its pictures while it draws; without a mask it does not start from one"
            )
        for name in ("prompt", "negative_prompt"):
            if IMAGE in (getattr(request, name) or ""):
                raise PipelineError(
                    f"{name}: it has {IMAGE}, which stands for a picture; other text is needed"
                )

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        """Small pictures are looked at as large ones."""
        if inpaints(request):
            return super().working_bytes(request, plan)
        sizes = [looked_size(size, self.area) for size in request.image_sizes]
        images = tuple(np.broadcast_to(np.uint8(0), (height, width, 3)) for width, height in sizes)
        return super().working_bytes(structs.replace(request, images=images), plan)

    def seen_pictures(self, run: DenoisePlan) -> Sequence[SeenPicture]:
        images = run.request.images
        if inpaints(run.request):
            images = (Canvas.of(run.request, run.plan).picture,)
        return [self._see(Image.fromarray(image)) for image in images]

    def _see(self, picture: Image.Image) -> SeenPicture:
        return self.processor.look(picture.resize(looked_size(picture.size, self.seen_area), LANCZOS))

    @staticmethod
    def mark(index: int) -> str:
        """What stands before the prompt for a picture, {} in place of its rows."""
        return f"{BEGIN}{{}}{END}"

    def encode_prompt_with(self, prompt: str, pictures: Sequence[SeenPicture]) -> PromptEmbeds:
        marks = "".join(
            self.mark(index).format(IMAGE * picture.tokens) for index, picture in enumerate(pictures)
        )
        seen = len(self.tokenizer.encode(marks, pad=False).ids)
        limit = self.beginning + seen + self.context
        tokens = self.tokenizer.encode(self.template.format(marks + prompt), limit, pad=False)
        encoder: Qwen25VLEncoder = self.encoder()
        rows = mx.concatenate([encoder.see(picture, self.processor) for picture in pictures])
        states = encoder.with_pictures(tokens.ids, pictures, rows, self.processor.merge_size)
        return of_any_length(states[:, self.beginning :], cut_warning(tokens.cut, self.context))

    def references(self, run: DenoisePlan) -> list[mx.array]:
        """A picture with a mask is looked at as the loop has it."""
        if inpaints(run.request):
            return []
        pictures = [Image.fromarray(image) for image in run.request.images]
        pixels = [to_start(picture, *looked_size(picture.size, self.area)) for picture in pictures]
        return [self.codec.encode(mx.array(shown), strips=self.strips) for shown in pixels]


class QwenImageEditPlus(QwenImageEdit):
    """2509 and 2511: several pictures, with numbers; the text encoder sees smaller ones."""

    model_name = "Qwen-Image-Edit Plus"
    family = PIPELINES["QwenImageEditPlusPipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        self.seen_area = (self.defaults.side * 3 // 8) ** 2

    def _check(self, request: ImageRequest) -> None:
        super()._check(request)
        if inpaints(request):
            raise PipelineError("mask, outpaint: this model has none; it edits whole pictures")

    @staticmethod
    def mark(index: int) -> str:
        return f"Picture {index + 1}: {BEGIN}{{}}{END}"


def looked_size(size: Size, area: int) -> Size:
    """Near the shape of a picture, with about so many pixels."""
    ratio = size[0] / size[1]
    width = math.sqrt(area * ratio)
    sides = (max(round(side / MULTIPLE), 1) * MULTIPLE for side in (width, width / ratio))
    return next(sides), next(sides)


def _held_size(size: Size) -> Size:
    width, height = size
    if width * height <= LARGEST:
        return size
    scale = math.sqrt(LARGEST / (width * height))
    return int(width * scale), int(height * scale)
