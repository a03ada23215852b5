"""Z-Image: a Qwen3 encoder read one layer before its end, without padding, latents in float32. A guidance of 0 is off."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import mlx.core as mx
import numpy as np

from models.adapters.spellings import Z_IMAGE
from models.checkpoint.weights import WeightMap
from models.config import ConfigError
from models.files import LocalModel
from models.kernels.gpu import on_cuda
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from models.transformers.z_image import (
    SEQUENCE_MULTIPLE,
    WEIGHTS,
    Modulation,
    Prepared,
    Residuals,
    ZImageConfig,
    ZImageTransformer,
)
from models.transformers.z_image_controlnet import ZImageControlNet, ZImageControlNetConfig
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
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

DEPTH = -2  # of the hidden states as the reference counts them: one layer before the last


class ZImage(DenoisingPipeline):
    model_name = "Z-Image"
    family = PIPELINES["ZImagePipeline"]
    channels_first = False
    tiny_vae_repo = "madebyollin/taef1"
    controlnet_class = "ZImageControlNetModel"

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLConfig.from_dict(vae)
        config = ZImageConfig.from_dict(transformer)
        encoder = Qwen3Config.from_dict(config_of(model, "text_encoder"))
        _check(config, encoder, vae_config)
        self.config = config
        self.patch = config.all_patch_size[0]
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self._chat("")  # raises if the template is missing or invalid
        self.encoder = Component(model, "text_encoder", lambda: _encoder(encoder), settings)
        self.encoders = (self.encoder,)
        self.transformer = Component(
            model, "transformer", lambda: (ZImageTransformer(config), WEIGHTS), settings
        )
        self.vae = Component(
            model, "vae", lambda: (AutoencoderKL(vae_config), VAE_WEIGHTS), settings, quantized=False
        )
        self.defaults = self.defaults_for(
            sample_side(transformer, vae, vae_config.scale), vae_config.scale * self.patch
        )
        self.dimensions = Dimensions(
            width=config.dim,
            mlp=config.mlp_width,
            prompt=self.context,
            multiple=self.defaults.size_multiple,
            channels=vae_config.outermost,
        )

    def adaptable(self) -> dict[str, Adaptable]:
        return {"transformer": Adaptable(self.transformer, Z_IMAGE)}

    def plan(self, request: ImageRequest) -> Plan:
        if request.controls and len(request.controls) > 1:
            raise PipelineError("controls: this model takes one ControlNet at a time")
        plan = super().plan(request)
        if request.negative_prompt and not plan.guidance:
            return replace(plan, warnings=(*plan.warnings, "negative_prompt has no effect without guidance"))
        return plan

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        """Guidance ends after the time given by cfg_truncation."""
        if not plan.guidance:
            return 0
        until = 1.0 if request.cfg_truncation is None else request.cfg_truncation
        return int(np.count_nonzero(_timesteps(schedule) <= until))

    def _chat(self, prompt: str) -> str:
        return self.tokenizer.chat(prompt, enable_thinking=True)

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        tokens = self.tokenizer.encode(self._chat(prompt), self.context, pad=False)
        # On NVIDIA cards attention is planned for each length; padded like captions, prompts have few lengths. The encoder is
        # causal, so padding at the end changes nothing.
        length = len(tokens.ids)
        padding = -length % SEQUENCE_MULTIPLE if on_cuda() else 0
        states = self.encoder()(mx.array([[*tokens.ids, *[0] * padding]]))[0]
        return PromptEmbeds((states[:length],), cut_warning(tokens.cut, self.context))

    def warmup_lengths(self) -> range:
        """The lengths that captions are padded to."""
        return range(SEQUENCE_MULTIPLE, self.context + 1, SEQUENCE_MULTIPLE)

    def warmup_length(self, length: int) -> mx.array:
        """Traces the step for such a caption, and computes one block, which stands for all."""
        network: ZImageTransformer = self.transformer()
        caption = self.encoder()(mx.zeros((1, length), mx.int32))[0]
        side = self.defaults.side // self.defaults.size_multiple
        prepared = network.prepare([caption], side, side)
        tokens = mx.zeros((1, side * side, self.features))
        self.transformer.step(tokens, prepared, network.modulation([0.0]).at(0))
        return network.warmup_block(prepared)

    def mu(self, tokens: int, steps: int) -> float:
        return self.flow.linear_mu(tokens)

    def latent_dtype(self, run: DenoisePlan, embeds: PromptEmbeds) -> mx.Dtype:
        return mx.float32 if run.plan.strength is None else embeds.states[0].dtype

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        network: ZImageTransformer = self.transformer()
        return network.prepare([embeds.states[0] for embeds in prompts], run.rows, run.columns)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        network: ZImageTransformer = self.transformer()
        return network.modulation([float(timestep) for timestep in _timesteps(run.schedule)])

    def controlnet(self, config: dict[str, Any]) -> Build:
        made = ZImageControlNetConfig.from_dict(config)
        _check_controlnet(made, self.config)
        return lambda: (ZImageControlNet(made), WEIGHTS)

    def control_inputs(
        self,
        run: DenoisePlan,
        prompts: Sequence[PromptEmbeds],
        choice: ControlNetChoice,
        network: ZImageControlNet,
    ) -> TransformerInputs:
        timesteps = [float(timestep) for timestep in _timesteps(run.schedule)]
        return TransformerInputs(None, network.modulation(self.transformer(), timesteps))

    def control_tokens(self, latents: mx.array, network: ZImageControlNet) -> mx.array:
        """Later networks take more channels, for a mask that is not there."""
        missing = network.config.control_in_dim - latents.shape[-1]
        return self.to_tokens(mx.pad(latents, [(0, 0)] * 3 + [(0, missing)]))

    def residuals(self, control: Control, inputs: ControlInputs, scale: float) -> Residuals:
        """Not compiled: it goes through layers of the transformer, which adapters may change."""
        network: ZImageControlNet = control.component()
        given = inputs.transformer
        return network.residuals(
            self.transformer(),
            inputs.batch,
            inputs.picture,
            given.prepared,
            given.modulation.at(inputs.step).refiner,
            control.inputs.modulation.at(inputs.step),
            mx.array(scale),
        )

    def velocity(self, answer: mx.array) -> mx.array:
        return -answer.astype(mx.float32)

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        """`cfg_normalization` limits the length of the guided velocity, in multiples of the conditional one's."""
        guided = cond + (run.plan.guidance or 0.0) * (cond - uncond)
        limit = run.request.cfg_normalization
        if not limit:
            return guided
        norm = mx.linalg.norm(guided.flatten())
        largest = limit * mx.linalg.norm(cond.flatten())
        return mx.where(norm > largest, guided * (largest / norm), guided)


def _timesteps(schedule: Schedule) -> np.ndarray:
    """Z-Image's timesteps run from 0 (noise) to 1 (picture)."""
    thousand = np.float32(1000)
    return (thousand - schedule.timesteps) / thousand


def _encoder(config: Qwen3Config) -> tuple[Qwen3Encoder, WeightMap]:
    encoder = Qwen3Encoder(config, (DEPTH,))
    return encoder, encoder.weight_map


def _check(config: ZImageConfig, encoder: Qwen3Config, vae: AutoencoderKLConfig) -> None:
    require_equal(
        "the transformer's cap_feat_dim", config.cap_feat_dim,
        "the text encoder's hidden_size", encoder.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's in_channels", config.in_channels,
        "the autoencoder's latent_channels", vae.latent_channels,
    )  # fmt: skip
    if config.all_f_patch_size[0] != 1:
        raise ConfigError(
            f"the transformer's all_f_patch_size is {list(config.all_f_patch_size)}; [1] is supported"
        )


def _check_controlnet(controlnet: ZImageControlNetConfig, config: ZImageConfig) -> None:
    for name in ("dim", "n_heads", "all_patch_size", "n_refiner_layers"):
        if getattr(controlnet, name) != getattr(config, name):
            raise ConfigError(
                f"the ControlNet's {name} is {getattr(controlnet, name)}, and the transformer's {getattr(config, name)}: these "
                "do not belong together"
            )
    if controlnet.control_in_dim < config.in_channels:
        raise ConfigError(
            f"the ControlNet's control_in_dim is {controlnet.control_in_dim}; {config.in_channels} or more are needed"
        )
    if controlnet.control_layers_places[-1] >= config.n_layers:
        raise ConfigError(
            f"the ControlNet's control_layers_places are {list(controlnet.control_layers_places)}, and the transformer has "
            f"{config.n_layers} layers"
        )
