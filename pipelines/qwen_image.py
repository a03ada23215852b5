"""Qwen-Image: Qwen2.5-VL's last states without the template's beginning, guidance that keeps the velocity's length."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

from models.checkpoint.weights import WeightMap
from models.files import LocalModel
from models.text_encoders.qwen2_5_vl import Qwen25VLConfig, Qwen25VLEncoder
from models.transformers.qwen_image import (
    WEIGHTS,
    Modulation,
    Prepared,
    QwenImageConfig,
    QwenImageTransformer,
)
from models.vae.autoencoder_kl_qwen_image import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl_qwen_image import AutoencoderKLQwenImage, AutoencoderKLQwenImageConfig
from pipelines import PIPELINES
from pipelines.adapters import Adaptable
from pipelines.base import ImageRequest, PipelineError, Plan
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

TEMPLATE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships "
    "of the objects and background:<|im_end|>\n<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
)
BEGINNING = 34  # tokens of the template before the prompt, which the transformer does not get
UNGUIDED = 1.0
# What the prompt is compared with where no negative prompt is given, as the models' cards have it.
NOTHING = " "


class QwenImage(DenoisingPipeline):
    model_name = "Qwen-Image"
    family = PIPELINES["QwenImagePipeline"]
    template, beginning = TEMPLATE, BEGINNING

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLQwenImageConfig.from_dict(vae)
        config = QwenImageConfig.from_dict(transformer)
        encoder = Qwen25VLConfig.from_dict(config_of(model, "text_encoder"))
        _check(config, encoder, vae_config)
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self.encoder = Component(model, "text_encoder", lambda: self._encoder(encoder), settings)
        self.encoders = (self.encoder,)
        self.transformer = Component(
            model, "transformer", lambda: (QwenImageTransformer(config), WEIGHTS), settings
        )
        self.vae = Component(
            model, "vae", lambda: (AutoencoderKLQwenImage(vae_config), VAE_WEIGHTS), settings, quantized=False
        )
        self.defaults = self.defaults_for(
            sample_side(transformer, vae, vae_config.scale), vae_config.scale * self.patch
        )
        self.dimensions = Dimensions(
            width=config.width,
            mlp=config.mlp_width,
            prompt=self.context,
            multiple=self.defaults.size_multiple,
            channels=vae_config.outermost,
        )

    def _encoder(self, config: Qwen25VLConfig) -> tuple[Qwen25VLEncoder, WeightMap]:
        """Without its tower: it sees no pictures."""
        encoder = Qwen25VLEncoder(config)
        return encoder, encoder.weight_map

    def adaptable(self) -> dict[str, Adaptable]:
        """Its layers' names in adapters are the checkpoint's."""
        return {"transformer": Adaptable(self.transformer, {})}

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        if self.flow.shift_terminal and plan.num_inference_steps < 2:
            raise PipelineError(
                f"steps: {plan.num_inference_steps} is too few; this model's schedule needs at least 2"
            )
        if request.negative_prompt and not (plan.guidance or 0) > UNGUIDED:
            warning = "negative_prompt has no effect without guidance above 1"
            return replace(plan, warnings=(*plan.warnings, warning))
        return plan

    def warmup_request(self) -> ImageRequest:
        return ImageRequest("", seed=1, steps=2)

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if (plan.guidance or 0) > UNGUIDED else 0

    def negative_prompt(self, request: ImageRequest) -> str:
        return NOTHING if request.negative_prompt is None else request.negative_prompt

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        tokens = self.tokenizer.encode(self.template.format(prompt), self.beginning + self.context, pad=False)
        states = self.encoder()(mx.array([tokens.ids]))[:, self.beginning :]
        return of_any_length(states, cut_warning(tokens.cut, self.context))

    def mu(self, tokens: int, steps: int) -> float:
        return self.flow.linear_mu(tokens)

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        lengths = [embeds.states[0].shape[1] for embeds in prompts]
        grids, tokens = [(run.rows, run.columns)], None
        if references:
            grids += [(ref.shape[1] // self.patch, ref.shape[2] // self.patch) for ref in references]
            tokens = mx.concatenate([self.to_tokens(reference) for reference in references], axis=1)
        (text,) = PromptEmbeds.batch(prompts).states
        network: QwenImageTransformer = self.transformer()
        return network.prepare(text, lengths, grids, tokens)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        network: QwenImageTransformer = self.transformer()
        return network.modulation(run.timesteps)

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        """Each token's guided velocity is as long as the conditional one's."""
        guided = super().apply_cfg(run, cond, uncond)
        length, guided_length = (mx.linalg.norm(x, axis=-1, keepdims=True) for x in (cond, guided))
        return guided * (length / guided_length)


def of_any_length(states: mx.array, warnings: tuple[str, ...]) -> PromptEmbeds:
    """States that are padded beside longer ones."""
    return PromptEmbeds((states,), warnings, mx.array(np.ones(states.shape[:2], np.float32)))


def _check(config: QwenImageConfig, encoder: Qwen25VLConfig, vae: AutoencoderKLQwenImageConfig) -> None:
    require_equal(
        "the transformer's joint_attention_dim", config.joint_attention_dim,
        "the text encoder's hidden_size", encoder.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's in_channels", config.in_channels,
        "a patch of the autoencoder's z_dim", config.patch_size**2 * vae.z_dim,
    )  # fmt: skip
    require_equal(
        "the transformer's output", config.out_features,
        "a patch of the autoencoder's z_dim", config.patch_size**2 * vae.z_dim,
    )  # fmt: skip
    require_equal(
        "the transformer's patch_size", config.patch_size, "that of Qwen-Image's pipelines", QwenImage.patch
    )
