"""Z-Image: a Qwen3 encoder read one layer before its end, padding left out, latents in float32.

Turbo and base have the same networks, so their files must tell them apart: `is_distilled` in model_index.json where it
is stated, else a name with "turbo" in it, else the scheduler: Turbo's shift is static and 3, base's is not. Turbo takes
8 steps unguided, base 50 and a guidance of 5. Guidance is any number above 0, and 0 turns it off.
"""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx
import numpy as np

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
    ZImageConfig,
    ZImageTransformer,
)
from models.vae.autoencoder_kl import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl import AutoencoderKL, AutoencoderKLConfig
from pipelines import PIPELINES
from pipelines.base import ImageRequest, Plan
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions

DEPTH = -2  # as the reference counts hidden states: one layer before the last


class ZImage(DenoisingPipeline):
    family = PIPELINES["ZImagePipeline"]
    channels_first = False

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLConfig.from_dict(vae)
        config = ZImageConfig.from_dict(transformer)
        encoder = Qwen3Config.from_dict(config_of(model, "text_encoder"))
        _check(config, encoder, vae_config)
        self.patch = config.all_patch_size[0]
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self._asked("")  # a template that is missing or broken is an error now
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

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        if request.negative_prompt and not plan.guidance:
            return replace(plan, warnings=(*plan.warnings, "negative_prompt has no effect without guidance"))
        return plan

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        """Guidance ends after the time that cfg_truncation names."""
        if not plan.guidance:
            return 0
        until = 1.0 if request.cfg_truncation is None else request.cfg_truncation
        return int(np.count_nonzero(_times(schedule) <= until))

    def _asked(self, prompt: str) -> str:
        return self.tokenizer.chat(prompt, enable_thinking=True)

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        read = self.tokenizer.encode(self._asked(prompt), self.context, pad=False)
        # On NVIDIA cards attention is planned for each length: padded as captions are, prompts have few. What follows
        # a token does not change it.
        padding = -len(read.ids) % SEQUENCE_MULTIPLE if on_cuda() else 0
        states = self.encoder()(mx.array([[*read.ids, *[0] * padding]]))[0]
        return PromptEmbeds((states[: len(read.ids)],), cut_warning(read.cut, self.context))

    def warmup_lengths(self) -> range:
        """Captions are padded to these."""
        return range(SEQUENCE_MULTIPLE, self.context + 1, SEQUENCE_MULTIPLE)

    def warmup_length(self, length: int) -> mx.array:
        """The step is traced for such a caption, and one block is computed in the stead of all."""
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
        return network.modulation([float(time) for time in _times(run.schedule)])

    def velocity(self, answer: mx.array) -> mx.array:
        return -answer.astype(mx.float32)

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        """Away from the negative prompt; no longer than so many times the unguided velocity where a limit is asked."""
        guided = cond + (run.plan.guidance or 0.0) * (cond - uncond)
        limit = run.request.cfg_normalization
        if not limit:
            return guided
        length = mx.linalg.norm(guided.flatten())
        longest = limit * mx.linalg.norm(cond.flatten())
        return mx.where(length > longest, guided * (longest / length), guided)


def _times(schedule: Schedule) -> np.ndarray:
    """This family's time runs from 0 (noise) to 1 (picture)."""
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
        raise ConfigError(f"the transformer's all_f_patch_size is {config.all_f_patch_size}, 1 is supported")
