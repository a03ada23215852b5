"""FLUX.3 klein: Qwen3-VL's text network read at eight depths, reference pictures, layout boxes.

A single reference is kept whole: it is padded to whole tokens, and the picture drawn from it has its size again. Several are
cropped to whole tokens.
"""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np
from msgspec import structs
from PIL import Image

from models.adapters.spellings import FLUX3
from models.checkpoint.weights import WeightMap
from models.files import LocalModel
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder, text_config
from models.transformers.flux3 import WEIGHTS, Flux3Config, Flux3Transformer, Modulation, Prepared
from models.vae.autoencoder_kl import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl import AutoencoderKLFlux2
from models.vae.config import AutoencoderKLFlux2Config
from pipelines import PIPELINES
from pipelines.adapters import Adaptable
from pipelines.base import ImageRequest, PipelineError, Pixels, Plan, Size
from pipelines.boxes import with_boxes
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise_state import DenoisePlan
from pipelines.images import fitted_size, to_whole_reference, whole_size
from pipelines.inpaint import inpaints
from pipelines.klein import Klein
from pipelines.latents import flux3_image_ids, flux3_reference_ids
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import FlowMatch
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

SHIFT = 6.93  # of the schedule; checkpoints come without one
TEXT_MULTIPLE = 80  # prompts are padded to a multiple of so many tokens, which the transformer looks at
PAD_POSITION = 1  # of all these tokens
DEPTHS = 8  # at ninths of the encoder's layers: 4, 8 … 32 of the real one's 36


class Flux3Klein(Klein):
    model_name = "FLUX.3 klein"
    family = PIPELINES["Flux3DistilledModularPipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLFlux2Config.from_dict(vae)
        config = Flux3Config.from_dict(transformer)
        encoder = Qwen3Config.from_dict(text_config(config_of(model, "text_encoder")))
        _check(config, encoder, vae_config)
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self.tokenizer.chat("")  # raises if the template is missing or invalid
        self.encoder = Component(model, "text_encoder", lambda: _encoder(encoder), settings)
        self.encoders = (self.encoder,)
        self.transformer = Component(
            model, "transformer", lambda: (Flux3Transformer(config), WEIGHTS), settings
        )
        self.vae = Component(
            model, "vae", lambda: (AutoencoderKLFlux2(vae_config), VAE_WEIGHTS), settings, quantized=False
        )
        self.defaults = self.defaults_for(
            sample_side(transformer, vae, vae_config.scale), vae_config.scale * vae_config.patch_size[0]
        )
        self.dimensions = Dimensions(
            width=config.width,
            mlp=config.mlp_width,
            prompt=self.context,
            multiple=self.defaults.size_multiple,
            channels=vae_config.outermost,
        )

    def flow_match(self, model: LocalModel) -> FlowMatch:
        return FlowMatch(shift=SHIFT)

    def adaptable(self) -> dict[str, Adaptable]:
        return {"transformer": Adaptable(self.transformer, FLUX3)}

    def plan(self, request: ImageRequest) -> Plan:
        """A picture drawn from one reference has its size, unless another is requested: the margins are cut off again."""
        self._check_boxes(request)
        if not self._keeps_whole(request):
            return super().plan(request)
        multiple = self.defaults.size_multiple
        fitted = fitted_size(*request.image_sizes[0], multiple)
        width, height = whole_size(*fitted, multiple)
        sides = zip((request.width, request.height), fitted, strict=True)
        as_reference = all(not side or side == own for side, own in sides)
        if as_reference:
            sized = structs.replace(request, width=width, height=height)
        else:
            sized = structs.replace(request, width=request.width or width, height=request.height or height)
        plan = super().plan(sized)
        return replace(plan, reduced=(fitted,), pasted=fitted if as_reference else None)

    def full_prompt(self, request: ImageRequest) -> str:
        """Boxes stand behind the prompt, as the reference's rewritten prompts have them."""
        return (
            with_boxes(request.prompt, request.boxes, bool(request.images))
            if request.boxes
            else request.prompt
        )

    @staticmethod
    def _check_boxes(request: ImageRequest) -> None:
        for index, box in enumerate(request.boxes or ()):
            if box.image is not None and box.image >= len(request.images):
                raise PipelineError(
                    f"boxes[{index}].image: {box.image} is not one of the {len(request.images)} pictures in images, which count "
                    "from 0"
                )

    @staticmethod
    def _keeps_whole(request: ImageRequest) -> bool:
        return len(request.images) == 1 and request.strength is None and not inpaints(request)

    def shown(self, plan: Plan, image: Pixels, count: int) -> np.ndarray:
        if count == 1:
            return to_whole_reference(Image.fromarray(image), self.defaults.size_multiple)
        return super().shown(plan, image, count)

    def shown_sizes(self, request: ImageRequest, plan: Plan) -> list[Size]:
        if not self._keeps_whole(request):
            return super().shown_sizes(request, plan)
        multiple = self.defaults.size_multiple
        return [whole_size(*fitted_size(*size, multiple), multiple) for size in request.image_sizes]

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """Padding is masked in the encoder only; there all of it is at one position."""
        chat = self.tokenizer.chat(prompt)
        real = self.tokenizer.encode(chat, self.context, pad=False)
        count = len(real.ids)
        padded = min(-(-count // TEXT_MULTIPLE) * TEXT_MULTIPLE, self.context) - count
        ids = mx.array([[*real.ids, *[self.tokenizer.pad_id] * padded]])
        if padded:
            positions = mx.array([[*range(count), *[PAD_POSITION] * padded]])
            states = self.encoder()(ids, mx.array([[*real.mask, *[0] * padded]]), positions)
        else:
            states = self.encoder()(ids)
        return PromptEmbeds((states,), cut_warning(real.cut, self.context))

    def mu(self, tokens: int, steps: int) -> float:
        return 0.0  # the shift is static

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        network: Flux3Transformer = self.transformer()
        texts = [embeds.states[0][0] for embeds in prompts]
        positions = flux3_image_ids(run.rows, run.columns)
        if not references:
            return network.prepare(texts, positions)
        tokens = mx.concatenate([self.to_tokens(reference) for reference in references], axis=1)
        sizes = [(reference.shape[1], reference.shape[2]) for reference in references]
        return network.prepare(texts, positions, tokens, flux3_reference_ids(sizes))

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        network: Flux3Transformer = self.transformer()
        return network.modulation(run.timesteps)


def _encoder(config: Qwen3Config) -> tuple[Qwen3Encoder, WeightMap]:
    depths = tuple(config.num_hidden_layers * (index + 1) // (DEPTHS + 1) for index in range(DEPTHS))
    encoder = Qwen3Encoder(config, depths)
    return encoder, encoder.weight_map


def _check(config: Flux3Config, encoder: Qwen3Config, vae: AutoencoderKLFlux2Config) -> None:
    require_equal(
        "the transformer's joint_attention_dim", config.joint_attention_dim,
        "eight times the text encoder's hidden_size", DEPTHS * encoder.hidden_size,
    )  # fmt: skip
    for name, channels in (
        ("in_channels", config.in_channels),
        ("cond_in_channels", config.cond_in_channels),
    ):
        require_equal(
            f"the transformer's {name}", channels,
            "a patch of the autoencoder's latent_channels", vae.patch_size[0] ** 2 * vae.latent_channels,
        )  # fmt: skip
