"""FLUX.1: CLIP's pooled vector and T5's sequence, guidance inside the network where it was distilled into it.

The files tell the kinds apart. `guidance_embeds` in the transformer's config: dev and what is made from it, 28 steps and
a guidance of 3.5. Without it, a schedule whose shift is static (or a name with "schnell" in it): schnell, 4 steps, none.
Otherwise a network without distilled guidance: 28 steps. schnell reads 256 tokens of a prompt, the others 512.

`guidance` is one number with two uses. Without a negative prompt it goes into the network. With one, it is how strongly
the two prompts are compared, and the network is told 1, no guidance of its own; `true_cfg_scale` sets the comparison
apart from it.
"""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from models.files import LocalModel
from models.text_encoders.clip import CLIPTextConfig, CLIPTextEncoder
from models.text_encoders.t5 import T5Config, T5Encoder
from models.transformers.flux import WEIGHTS, FluxConfig, FluxTransformer, Modulation, Prepared
from models.vae.autoencoder_kl import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from pipelines import PIPELINES
from pipelines.base import ImageRequest, Plan
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.latents import flux_image_ids, flux_text_ids
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

UNGUIDED = 1.0
CLIP_TOKENS = 77


class Flux(DenoisingPipeline):
    family = PIPELINES["FluxPipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLConfig.from_dict(vae)
        config = self.config = FluxConfig.from_dict(transformer)
        clip = CLIPTextConfig.from_dict(config_of(model, "text_encoder"))
        t5 = T5Config.from_dict(config_of(model, "text_encoder_2"))
        _check(config, clip, t5, vae_config)
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

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        told = list(plan.warnings)
        if not self._compares(request) and not self.config.guidance_embeds:
            if request.guidance is not None and request.guidance > UNGUIDED:
                told.append(
                    "guidance has no effect without a negative prompt: this model has none of its own"
                )
            plan = replace(plan, guidance=None)
        if request.negative_prompt and not self._comparison(request) > UNGUIDED:
            told.append("negative_prompt has no effect without guidance above 1")
        return replace(plan, warnings=tuple(told))

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if self._comparison(request) > UNGUIDED else 0

    @staticmethod
    def _compares(request: ImageRequest) -> bool:
        """An empty negative prompt is what many clients send for none."""
        return bool(request.negative_prompt) or (
            request.negative_prompt is not None and request.true_cfg_scale is not None
        )

    def _comparison(self, request: ImageRequest) -> float:
        """How strongly the prompt is compared with the negative one."""
        if not self._compares(request):
            return UNGUIDED
        given = request.guidance if request.true_cfg_scale is None else request.true_cfg_scale
        return self.defaults.guidance or UNGUIDED if given is None else given

    def _embedded(self, run: DenoisePlan) -> float | None:
        """What the network is told, where it was made to be told anything."""
        if not self.config.guidance_embeds:
            return None
        only = run.cfg_steps == 0 or run.request.true_cfg_scale is not None
        return run.plan.guidance if only else UNGUIDED

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """T5's states and CLIP's vector. T5 is not told what is padding, as the reference does not tell it."""
        short = self.clip_tokenizer.encode(prompt, self.clip_tokens)
        whole = self.t5_tokenizer.encode(prompt, self.context)
        pooled, states = self.clip()(mx.array([short.ids])), self.t5()(mx.array([whole.ids]))
        summary = cut_warning(short.cut, self.clip_tokens, "the prompt's summary by CLIP")
        return PromptEmbeds((states, pooled), (*cut_warning(whole.cut, self.context), *summary))

    def mu(self, tokens: int, steps: int) -> float:
        return self.flow.linear_mu(tokens)

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        text, _ = PromptEmbeds.batch(prompts).states
        network: FluxTransformer = self.transformer()
        return network.prepare(text, flux_text_ids(text.shape[1]), flux_image_ids(run.rows, run.columns))

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        _, pooled = PromptEmbeds.batch(prompts).states
        network: FluxTransformer = self.transformer()
        return network.modulation(run.timesteps, pooled, self._embedded(run))

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        return uncond + self._comparison(run.request) * (cond - uncond)


def _check(config: FluxConfig, clip: CLIPTextConfig, t5: T5Config, vae: AutoencoderKLConfig) -> None:
    require_equal(
        "the transformer's pooled_projection_dim", config.pooled_projection_dim,
        "text_encoder's hidden_size", clip.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's joint_attention_dim", config.joint_attention_dim,
        "text_encoder_2's d_model", t5.d_model,
    )  # fmt: skip
    require_equal(
        "the transformer's in_channels", config.in_channels,
        "a patch of the autoencoder's latent_channels", 4 * vae.latent_channels,
    )  # fmt: skip
