"""FLUX.1: CLIP's pooled vector and T5's sequence, with guidance distilled into the network in dev.

`guidance` has two uses. Without a negative prompt it is an input of the network. With one, it is the scale of
classifier-free guidance, and the network's input is 1, no guidance; `true_cfg_scale` sets that scale separately.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from models.adapters.spellings import FLUX
from models.files import LocalModel
from models.text_encoders.clip import CLIPTextConfig, CLIPTextEncoder
from models.text_encoders.t5 import T5Config, T5Encoder
from models.transformers.flux import (
    WEIGHTS,
    FluxConfig,
    FluxTransformer,
    Modulation,
    Prepared,
    Residuals,
    add_residuals,
    spread,
)
from models.transformers.flux_controlnet import FluxControlNet, FluxControlNetConfig
from models.vae.autoencoder_kl import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl import AutoencoderKL
from models.vae.config import AutoencoderKLConfig
from pipelines import PIPELINES
from pipelines.adapters import Adaptable
from pipelines.base import ControlNetChoice, ImageRequest, PipelineError, Plan
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.controlnets import Build, Control, ControlInputs
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan, TransformerInputs
from pipelines.latents import flux_image_ids, flux_reference_ids, flux_text_ids
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

UNGUIDED = 1.0
CLIP_TOKENS = 77
CONTROL_GUIDANCE = 3.5  # of a ControlNet distilled with guidance, beside a transformer without


class Flux(DenoisingPipeline):
    model_name = "FLUX.1"
    family = PIPELINES["FluxPipeline"]
    tiny_vae_repo = "madebyollin/taef1"
    controlnet_class = "FluxControlNetModel"
    samples_controls = True

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLConfig.from_dict(vae)
        config = self.config = FluxConfig.from_dict(transformer)
        clip = CLIPTextConfig.from_dict(config_of(model, "text_encoder"))
        t5 = T5Config.from_dict(config_of(model, "text_encoder_2"))
        _check(config, clip, t5)
        in_channels, expression = self.in_channels(vae_config)
        require_equal("the transformer's in_channels", config.in_channels, expression, in_channels)
        self.clip_tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", clip.vocab_size)
        self.t5_tokenizer = tokenizer_of(model, "tokenizer_2", "text_encoder_2", t5.vocab_size)
        self.clip_tokens = min(self.clip_tokenizer.max_length or CLIP_TOKENS, clip.max_position_embeddings)
        self.clip = Component(
            model, "text_encoder", lambda: (CLIPTextEncoder(clip), CLIPTextEncoder.weight_map), settings
        )
        self.t5 = Component(model, "text_encoder_2", lambda: (T5Encoder(t5), T5Encoder.weight_map), settings)
        self.encoders = (self.clip, self.t5)
        self.transformer = Component(
            model, "transformer", lambda: (FluxTransformer(config), WEIGHTS), settings
        )
        self.vae = Component(
            model, "vae", lambda: (AutoencoderKL(vae_config), VAE_WEIGHTS), settings, quantized=False
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

    @classmethod
    def in_channels(cls, vae: AutoencoderKLConfig) -> tuple[int, str]:
        """The features of a token that the transformer takes, and what they are."""
        return 4 * vae.latent_channels, "a patch of the autoencoder's latent_channels"

    def adaptable(self) -> dict[str, Adaptable]:
        return {
            "transformer": Adaptable(self.transformer, FLUX),
            "text_encoder": Adaptable(self.clip, {}),
            "text_encoder_2": Adaptable(self.t5, {}),
        }

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        warnings = list(plan.warnings)
        if not self._has_negative(request) and not self.config.guidance_embeds:
            if request.guidance is not None and request.guidance > UNGUIDED:
                warnings.append(
                    "guidance has no effect without a negative prompt: this model has none of its own"
                )
            plan = replace(plan, guidance=None)
        if request.negative_prompt and not self._cfg_scale(request) > UNGUIDED:
            warnings.append("negative_prompt has no effect without guidance above 1")
        return replace(plan, warnings=tuple(warnings))

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if self._cfg_scale(request) > UNGUIDED else 0

    @staticmethod
    def _has_negative(request: ImageRequest) -> bool:
        """Many clients send an empty negative prompt for none."""
        return bool(request.negative_prompt) or (
            request.negative_prompt is not None and request.true_cfg_scale is not None
        )

    def _cfg_scale(self, request: ImageRequest) -> float:
        """The scale of classifier-free guidance."""
        if not self._has_negative(request):
            return UNGUIDED
        scale = request.guidance if request.true_cfg_scale is None else request.true_cfg_scale
        return self.defaults.guidance or UNGUIDED if scale is None else scale

    def _distilled_guidance(self, run: DenoisePlan) -> float | None:
        """The guidance input of the network, if it has one."""
        return self._guidance_input(run) if self.config.guidance_embeds else None

    @staticmethod
    def _guidance_input(run: DenoisePlan) -> float:
        separate = run.cfg_steps == 0 or run.request.true_cfg_scale is not None
        if not separate:
            return UNGUIDED
        guidance = run.request.guidance if run.plan.guidance is None else run.plan.guidance
        return CONTROL_GUIDANCE if guidance is None else guidance

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """T5's states and CLIP's vector. T5 gets no mask for padding, as in the reference."""
        clip_prompt = self.clip_tokenizer.encode(prompt, self.clip_tokens)
        t5_prompt = self.t5_tokenizer.encode(prompt, self.context)
        pooled, states = self.clip()(mx.array([clip_prompt.ids])), self.t5()(mx.array([t5_prompt.ids]))
        clip_warning = cut_warning(clip_prompt.cut, self.clip_tokens, "the prompt's summary by CLIP")
        return PromptEmbeds((states, pooled), (*cut_warning(t5_prompt.cut, self.context), *clip_warning))

    def mu(self, tokens: int, steps: int) -> float:
        return self.flow.linear_mu(tokens)

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        text, _ = PromptEmbeds.batch(prompts).states
        network: FluxTransformer = self.transformer()
        positions, tokens = [flux_image_ids(run.rows, run.columns)], None
        if references:
            (reference,) = references
            rows, columns = (side // self.patch for side in reference.shape[1:3])
            positions.append(flux_reference_ids(rows, columns))
            tokens = self.to_tokens(reference)
        return network.prepare(text, flux_text_ids(text.shape[1]), np.concatenate(positions), tokens)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        _, pooled = PromptEmbeds.batch(prompts).states
        network: FluxTransformer = self.transformer()
        return network.modulation(run.timesteps, pooled, self._distilled_guidance(run))

    def controlnet(self, config: dict[str, Any]) -> Build:
        made = FluxControlNetConfig.from_dict(config)
        for name in ("in_channels", "joint_attention_dim", "pooled_projection_dim"):
            require_equal(
                f"the ControlNet's {name}",
                getattr(made, name),
                "the transformer's",
                getattr(self.config, name),
            )
        return lambda: (FluxControlNet(made), WEIGHTS)

    def control_inputs(
        self,
        run: DenoisePlan,
        prompts: Sequence[PromptEmbeds],
        choice: ControlNetChoice,
        network: FluxControlNet,
    ) -> TransformerInputs:
        """For the prompt alone: as in the reference, a negative prompt has the residuals of the prompt."""
        _check_mode(choice, network.modes)
        text, pooled = PromptEmbeds.batch(prompts[:1]).states
        positions = flux_text_ids(text.shape[1]), flux_image_ids(run.rows, run.columns)
        guidance = self._guidance_input(run) if network.config.guidance_embeds else None
        return TransformerInputs(
            network.prepare_mode(text, *positions, choice.mode),
            network.modulation(run.timesteps, pooled, guidance),
        )

    def residuals(self, control: Control, inputs: ControlInputs, scale: float) -> Residuals:
        prepared, modulation = control.inputs.prepared, control.inputs.modulation.at(inputs.step)
        residuals: Any = control.component.step(
            inputs.tokens, inputs.picture, prepared, modulation, mx.array(scale)
        )
        double, single = residuals
        config = self.config
        return Residuals(spread(double, config.num_layers), spread(single, config.num_single_layers))

    sum_residuals = staticmethod(add_residuals)

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        return uncond + self._cfg_scale(run.request) * (cond - uncond)


def _check_mode(choice: ControlNetChoice, modes: int | None) -> None:
    if modes is None and choice.mode is not None:
        raise PipelineError(f"controls: {choice.name} has no modes; leave mode out")
    if modes is not None and (choice.mode is None or choice.mode >= modes):
        raise PipelineError(f"controls: {choice.name} is a union; mode from 0 to {modes - 1} is needed")


def _check(config: FluxConfig, clip: CLIPTextConfig, t5: T5Config) -> None:
    require_equal(
        "the transformer's pooled_projection_dim", config.pooled_projection_dim,
        "text_encoder's hidden_size", clip.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's joint_attention_dim", config.joint_attention_dim,
        "text_encoder_2's d_model", t5.d_model,
    )  # fmt: skip
