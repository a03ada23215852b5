"""FLUX.2 klein: a Qwen3 encoder read at three depths, reference pictures, each with its own time coordinate, guidance for
base models only."""

from collections.abc import Sequence

import mlx.core as mx
import numpy as np

from models.adapters.spellings import FLUX2
from models.checkpoint.weights import WeightMap
from models.files import LocalModel
from models.text_encoders.qwen3 import Qwen3Config, Qwen3Encoder
from models.transformers.flux2 import WEIGHTS, Flux2Config, Flux2Transformer, Modulation, Prepared
from models.vae.autoencoder_kl import WEIGHTS as VAE_WEIGHTS
from models.vae.autoencoder_kl import AutoencoderKLFlux2
from models.vae.config import AutoencoderKLFlux2Config
from pipelines import PIPELINES
from pipelines.adapters import Adaptable
from pipelines.components import Component, require_equal, tokenizer_of
from pipelines.denoise_state import DenoisePlan
from pipelines.klein import Klein
from pipelines.latents import flux2_image_ids, flux2_reference_ids, flux2_text_ids
from pipelines.planning import sample_side
from pipelines.prompt_embeds import PromptEmbeds, cut_warning
from pipelines.sampling import flux2_mu
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions


class Flux2Klein(Klein):
    model_name = "FLUX.2 klein"
    family = PIPELINES["Flux2KleinPipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        vae, transformer = config_of(model, "vae"), config_of(model, "transformer")
        vae_config = AutoencoderKLFlux2Config.from_dict(vae)
        config = Flux2Config.from_dict(transformer)
        encoder = Qwen3Config.from_dict(config_of(model, "text_encoder"))
        _check(config, encoder, vae_config)
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", encoder.vocab_size)
        self._chat("")  # raises if the template is missing or invalid
        self.encoder = Component(model, "text_encoder", lambda: _encoder(encoder), settings)
        self.encoders = (self.encoder,)
        self.transformer = Component(
            model, "transformer", lambda: (Flux2Transformer(config), WEIGHTS), settings
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

    def adaptable(self) -> dict[str, Adaptable]:
        return {"transformer": Adaptable(self.transformer, FLUX2)}

    def _chat(self, prompt: str) -> str:
        return self.tokenizer.chat(prompt, enable_thinking=False)

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        """All 512 tokens go to the transformer, including padding, which is masked in the encoder only."""
        tokens = self.tokenizer.encode(self._chat(prompt), self.context)
        states = self.encoder()(mx.array([tokens.ids]), mx.array([tokens.mask]))
        return PromptEmbeds((states,), cut_warning(tokens.cut, self.context))

    def mu(self, tokens: int, steps: int) -> float:
        return flux2_mu(tokens, steps)

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        positions, tokens = [flux2_image_ids(run.rows, run.columns)], None
        if references:
            positions.append(flux2_reference_ids([(ref.shape[1], ref.shape[2]) for ref in references]))
            tokens = mx.concatenate([reference.flatten(1, 2) for reference in references], axis=1)
        (text,) = PromptEmbeds.batch(prompts).states
        network: Flux2Transformer = self.transformer()
        return network.prepare(text, flux2_text_ids(self.context), np.concatenate(positions), tokens)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        network: Flux2Transformer = self.transformer()
        return network.modulation(run.timesteps)


def _encoder(config: Qwen3Config) -> tuple[Qwen3Encoder, WeightMap]:
    """Layers 9, 18 and 27 of the real model's 36."""
    layers = config.num_hidden_layers
    encoder = Qwen3Encoder(config, (layers // 4, layers // 2, 3 * layers // 4))
    return encoder, encoder.weight_map


def _check(config: Flux2Config, encoder: Qwen3Config, vae: AutoencoderKLFlux2Config) -> None:
    require_equal(
        "the transformer's joint_attention_dim", config.joint_attention_dim,
        "three times the text encoder's hidden_size", 3 * encoder.hidden_size,
    )  # fmt: skip
    require_equal(
        "the transformer's in_channels", config.in_channels,
        "a patch of the autoencoder's latent_channels", vae.patch_size[0] ** 2 * vae.latent_channels,
    )  # fmt: skip
