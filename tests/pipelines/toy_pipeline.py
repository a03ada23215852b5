"""The pipeline of the family in `toy_networks.py`."""

from collections.abc import Sequence

import mlx.core as mx

from models.checkpoint.weights import WeightMap
from models.files import LocalModel
from pipelines import PIPELINES
from pipelines.base import ImageRequest, Plan
from pipelines.components import Component, tokenizer_of
from pipelines.denoise import DenoisingPipeline
from pipelines.denoise_state import DenoisePlan
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.sampling import Schedule
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import Dimensions
from tests.pipelines.toy_networks import (
    BlockCodec,
    Embedder,
    Modulation,
    Prepared,
    ToyConfig,
    ToyTransformer,
)


class ToyPipeline(DenoisingPipeline):
    family = PIPELINES["ToyPipeline"]
    patch = 1

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        config = ToyConfig.from_dict(config_of(model, "transformer"))
        self.tokenizer = tokenizer_of(model, "tokenizer", "text_encoder", config.vocab_size)
        self.encoders = (Component(model, "text_encoder", lambda: (Embedder(config), WeightMap()), settings),)
        self.transformer = Component(
            model, "transformer", lambda: (ToyTransformer(config), WeightMap()), settings
        )
        self.vae = Component(model, "vae", lambda: (BlockCodec(config), WeightMap()), settings)
        self.defaults = self.defaults_for(64, BlockCodec.scale)
        self.dimensions = Dimensions(config.width, config.width, self.context, BlockCodec.scale, channels=3)

    def encode_prompt(self, prompt: str) -> PromptEmbeds:
        ids = mx.array(
            [[0, *self.tokenizer.encode(prompt, self.context - 1, pad=False).ids]]
        )  # an empty prompt has a token
        return PromptEmbeds((self.encoders[0]()(ids),), mask=mx.ones_like(ids))

    def mu(self, tokens: int, steps: int) -> float:
        return self.flow.linear_mu(tokens)

    def cfg_steps(self, request: ImageRequest, plan: Plan, schedule: Schedule) -> int:
        return plan.denoise_steps if plan.guidance else 0

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        batch = PromptEmbeds.batch(prompts)
        return self.transformer().prepare(*batch.states, batch.mask)

    def modulation(self, run: DenoisePlan, prompts: Sequence[PromptEmbeds]) -> Modulation:
        return self.transformer().modulation(run.timesteps)
