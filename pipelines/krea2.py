"""Krea 2: Qwen3-VL's text network read at twelve depths, Qwen-Image's autoencoder. Guidance is what is added to the prompt's own
velocity: 0 is off."""

from collections.abc import Sequence
from dataclasses import replace

import mlx.core as mx

from models.adapters.spellings import KREA2
from models.checkpoint.weights import WeightMap
from models.config import ConfigError
from models.files import LocalModel
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder, text_config
from models.transformers.krea2 import WEIGHTS, Krea2Config, Krea2Transformer, Modulations, Prepared
from models.vae.autoencoder_kl_qwen_image import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl_qwen_image import AutoencoderKLQwenImage, AutoencoderKLQwenImageConfig
from pipelines import PIPELINES
from pipelines.adapters import Adaptable
from pipelines.base import ImageRequest, Plan
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of, read_index
from pipelines.working_memory import Dimensions

BEFORE = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships "
    "of the objects and background:<|im_end|>\n<|im_start|>user\n"
)
BEHIND = "<|im_end|>\n<|im_start|>assistant\n"
DROPPED = 34  # tokens at the beginning, which are the same for all prompts
KEPT_FREE = 5  # of the context, for what stands behind a prompt
DISTILLED_MU = 1.15
PATCH = 2


class Krea2(DenoisingPipeline):
    model_name = "Krea 2"
    family = PIPELINES["Krea2Pipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        transformer, autoencoder = config_of(model, "transformer"), config_of(model, "vae")
        vae = AutoencoderKLQwenImageConfig.from_dict(autoencoder)
        config = Krea2Config.from_dict(transformer)
        encoder = Qwen3Config.from_dict(text_config(config_of(model, "text_encoder")))
        index = read_index(model)
        depths = _depths(index.get("text_encoder_select_layers"), encoder.num_hidden_layers)
        self.patch = index.get("patch_size", PATCH)
        _check(config, encoder, vae, depths, self.patch)
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self.encoder = Component(model, "text_encoder", lambda: _encoder(encoder, depths), settings)
        self.encoders = (self.encoder,)
        self.transformer = Component(
            model, "transformer", lambda: (Krea2Transformer(config), WEIGHTS), settings
        )
        self.vae = Component(
            model, "vae", lambda: (AutoencoderKLQwenImage(vae), VAE_WEIGHTS), settings, quantized=False
        )
        self.defaults = self.defaults_for(
            sample_side(transformer, autoencoder, vae.scale), vae.scale * self.patch
        )
        self.dimensions = Dimensions(
            width=config.width,
            mlp=config.intermediate_size,
            prompt=self.context,
            multiple=self.defaults.size_multiple,
            channels=vae.outermost,
        )

    def adaptable(self) -> dict[str, Adaptable]:
        return {"transformer": Adaptable(self.transformer, KREA2)}

    def plan(self, request: ImageRequest) -> Plan:
        plan = super().plan(request)
        if request.negative_prompt and not plan.guidance:
            return replace(plan, warnings=(*plan.warnings, "negative_prompt has no effect without guidance"))
        return plan

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if plan.guidance else 0

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """The reference pads between a prompt and what stands behind it, masks the padding in both networks and does not count
        it in positions: it has no effect."""
        limit = self.context + DROPPED - KEPT_FREE
        told = self.tokenizer.encode(BEFORE + prompt, limit, pad=False)
        behind = self.tokenizer.encode(BEHIND, self.context, pad=False)
        states = self.encoder()(mx.array([[*told.ids, *behind.ids]]))
        fits = max(limit - len(self.tokenizer.encode(BEFORE, limit, pad=False).ids), 0)
        return PromptEmbeds((states[:, DROPPED:],), cut_warning(told.cut, fits))

    def mu(self, tokens: int, steps: int) -> float:
        return DISTILLED_MU if self.variant.distilled else self.flow.linear_mu(tokens)

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        network: Krea2Transformer = self.transformer()
        return network.prepare([embeds.states[0][0] for embeds in prompts], run.rows, run.columns)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulations:
        network: Krea2Transformer = self.transformer()
        return network.modulation(run.timesteps)

    def apply_cfg(self, run: DenoisePlan, cond: mx.array, uncond: mx.array) -> mx.array:
        return cond + (run.plan.guidance or 0.0) * (cond - uncond)


def _depths(listed: object, layers: int) -> tuple[int, ...]:
    """Of the hidden states: every third from the second on, unless the index lists others."""
    if listed is None:
        return tuple((3 * index + 2) * layers // 36 for index in range(12))
    if not isinstance(listed, list) or not all(type(depth) is int for depth in listed):
        raise ConfigError(f"text_encoder_select_layers is {listed!r}; a list of whole numbers is needed")
    return tuple(listed)


def _encoder(config: Qwen3Config, depths: tuple[int, ...]) -> tuple[Qwen3Encoder, WeightMap]:
    encoder = Qwen3Encoder(config, depths)
    return encoder, encoder.weight_map


def _check(
    config: Krea2Config,
    encoder: Qwen3Config,
    vae: AutoencoderKLQwenImageConfig,
    depths: tuple[int, ...],
    patch: object,
) -> None:
    if type(patch) is not int or patch < 1:
        raise ConfigError(f"patch_size is {patch!r}; a positive whole number is needed")
    require_equal(
        "the transformer's text_hidden_dim", config.text_hidden_dim,
        "the text encoder's hidden_size", encoder.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's num_text_layers", config.num_text_layers,
        "the number of text_encoder_select_layers", len(depths),
    )  # fmt: skip
    require_equal(
        "the transformer's in_channels", config.in_channels,
        "a patch of the autoencoder's z_dim", patch**2 * vae.z_dim,
    )  # fmt: skip
