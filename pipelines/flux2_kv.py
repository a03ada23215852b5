"""FLUX.2 klein KV: klein trained so that reference pictures attend to themselves alone. What the steps need of them is computed
once, and a step costs hardly more than without them."""

from collections.abc import Sequence

import mlx.core as mx

from models.files import LocalModel
from models.transformers.flux2 import Flux2Config, Flux2Transformer, Prepared
from pipelines import PIPELINES
from pipelines.base import ImageRequest, Plan
from pipelines.denoise_state import DenoisePlan
from pipelines.flux2 import Flux2Klein
from pipelines.images import drawn_size
from pipelines.latents import flux2_reference_ids
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.settings import Settings
from pipelines.variants import config_of
from pipelines.working_memory import BYTES


class Flux2KleinKV(Flux2Klein):
    model_name = "FLUX.2 klein KV"
    family = PIPELINES["Flux2KleinKVPipeline"]

    def __init__(self, model: LocalModel, settings: Settings) -> None:
        super().__init__(model, settings)
        config = Flux2Config.from_dict(config_of(model, "transformer"))
        self.blocks = config.num_layers + config.num_single_layers

    def working_bytes(self, request: ImageRequest, plan: Plan) -> int | None:
        work = super().working_bytes(request, plan)
        if work is None:
            return None
        model = self.dimensions
        sizes = [drawn_size(*size, model.multiple) for size in request.image_sizes]
        tokens = sum(model.tokens(*size) for size in sizes)
        return work + 2 * self.blocks * tokens * model.width * BYTES

    def prepare(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], references: Sequence[mx.array]
    ) -> Prepared:
        prepared = super().prepare(run, prompts, ())
        if not references:
            return prepared
        network: Flux2Transformer = self.transformer()
        tokens = mx.concatenate([self.to_tokens(reference) for reference in references], axis=1)
        positions = flux2_reference_ids([(ref.shape[1], ref.shape[2]) for ref in references])
        return prepared._replace(kept=network.keep(tokens, positions))
