"""The ControlNets of a loaded model: networks beside its transformer that follow a picture each. The ones in use are kept."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple, TypeAlias

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from PIL import Image

from models.checkpoint.quantize import QuantizationError
from models.checkpoint.weights import WeightMap, WeightsError
from models.config import ConfigError
from pipelines.base import ControlNetChoice, PipelineError
from pipelines.components import Component
from pipelines.denoise_state import DenoisePlan, TransformerInputs
from pipelines.images import to_start
from pipelines.init_latents import InitLatents
from pipelines.latents import Noise
from pipelines.prompt_embeds import PromptEmbeds
from pipelines.settings import Settings

Build: TypeAlias = Callable[[], tuple[nn.Module, WeightMap]]
FAULTS = (ConfigError, WeightsError, QuantizationError, OSError)


class ControlNets:
    """`build` reads a network's config, and says how to make it."""

    def __init__(self, kind: str, build: Callable[[dict[str, Any]], Build], settings: Settings) -> None:
        self._kind, self._build, self._settings = kind, build, settings
        self._used: dict[tuple[object, ...], Component[Any]] = {}

    def use(self, choices: Sequence[ControlNetChoice]) -> None:
        """Check these, without reading their weights, and forget all others."""
        self._used = {_key(one): self._used.get(_key(one)) or self._checked(one) for one in choices}

    def component(self, choice: ControlNetChoice) -> Component[Any]:
        component = self._used[_key(choice)]
        if not component.held:
            try:
                component.load()
            except FAULTS as error:
                raise PipelineError(f"controls: {choice.name}: {error}") from error
        return component

    def drop(self) -> None:
        """Release their memory."""
        for component in self._used.values():
            component.drop()

    def _checked(self, choice: ControlNetChoice) -> Component[Any]:
        try:
            config = choice.model.read_json("config.json") or {}
            if config.get("_class_name") != self._kind:
                raise ConfigError(f"it is a {str(config.get('_class_name'))[:64]!r}; {self._kind} is needed")
            component: Component[Any] = Component(choice.model, "", self._build(config), self._settings)
            component.check()
        except FAULTS as error:
            raise PipelineError(f"controls: {choice.name}: {error}") from error
        return component


class Control(NamedTuple):
    """A ControlNet in one run: its picture as tokens, [1 or picture, token, feature], and its other inputs."""

    component: Component[Any]
    choice: ControlNetChoice
    picture: mx.array
    inputs: TransformerInputs

    def tokens(self, index: int) -> mx.array:
        """Of one picture of the run."""
        return self.picture[index : index + 1] if len(self.picture) > 1 else self.picture


class ControlInputs(NamedTuple):
    """What a ControlNet is given at one step: the noise, alone and as the batch that the transformer takes; the transformer's
    other inputs; and the encoded control picture."""

    tokens: mx.array
    batch: mx.array
    transformer: TransformerInputs
    step: int
    picture: mx.array


class Controlled(InitLatents):
    """A family with ControlNets names their class, builds and feeds them."""

    controlnet_class: ClassVar[str] = ""
    most_controlnets: ClassVar[int] = 0
    samples_controls: ClassVar[bool] = False  # or the most likely latents
    _controlnets: ControlNets | None = None

    def controlnet(self, config: dict[str, Any]) -> Build:
        """How a ControlNet of this config is made; a ConfigError where it does not fit the model."""
        raise ConfigError("this model takes no ControlNets")

    def control_inputs(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], choice: ControlNetChoice, network: Any
    ) -> TransformerInputs:
        """What all steps share, beside the picture."""
        raise NotImplementedError

    def residuals(self, control: Control, inputs: ControlInputs, scale: float) -> Any:
        """What a ControlNet adds at one step, as the transformer's step takes it."""
        raise NotImplementedError

    def use_controlnets(self, choices: Sequence[ControlNetChoice]) -> None:
        if self._controlnets is None and choices:
            self._controlnets = ControlNets(self.controlnet_class, self.controlnet, self.settings)
        if self._controlnets is not None:
            self._controlnets.use(choices)

    def make_room(self) -> None:
        super().make_room()
        if self._controlnets is not None:
            self._controlnets.drop()

    def draw_controls(self, run: DenoisePlan, noise: Noise) -> list[np.ndarray | None]:
        """Numbers to sample the latents of each control picture with, for each picture of the run."""
        plan = run.plan
        if not self.samples_controls:
            return [None for _ in run.request.controlnets]
        return [
            self.draw_sample(noise, run.request.n, plan.width, plan.height) for _ in run.request.controlnets
        ]

    def controls(
        self, run: DenoisePlan, prompts: Sequence[PromptEmbeds], samples: Sequence[np.ndarray | None]
    ) -> tuple[Control, ...]:
        request = run.request
        return tuple(
            self._control(run, prompts, choice, pixels, sample)
            for choice, pixels, sample in zip(
                request.controlnets, request.control_images, samples, strict=True
            )
        )

    def _control(
        self,
        run: DenoisePlan,
        prompts: Sequence[PromptEmbeds],
        choice: ControlNetChoice,
        pixels: np.ndarray,
        sample: np.ndarray | None,
    ) -> Control:
        if self._controlnets is None:
            raise AssertionError("a run with ControlNets begins with use_controlnets")
        component = self._controlnets.component(choice)
        picture = mx.array(to_start(Image.fromarray(pixels), run.plan.width, run.plan.height))
        noises = [None] if sample is None else [mx.array(one[None]) for one in sample]
        latents = mx.concatenate([self.codec.encode(picture, one, self.strips) for one in noises])
        inputs = self.control_inputs(run, prompts, choice, component())
        return Control(component, choice, self.control_tokens(latents, component()), inputs)

    def control_tokens(self, latents: mx.array, network: Any) -> mx.array:
        return self.to_tokens(latents)

    def all_residuals(
        self, run: DenoisePlan, controls: Sequence[Control], index: int, inputs: ControlInputs
    ) -> tuple[Any, ...]:
        """What all ControlNets add at one step, as the last argument of the transformer's step; empty: nothing."""
        total: Any = None
        for control in controls:
            scale = control.choice.scale_at(inputs.step, run.plan.denoise_steps)
            if scale:
                more = self.residuals(control, inputs._replace(picture=control.tokens(index)), scale)
                total = more if total is None else self.sum_residuals(total, more)
        return () if total is None else (total,)

    @staticmethod
    def sum_residuals(one: Any, other: Any) -> Any:
        raise NotImplementedError


def _key(choice: ControlNetChoice) -> tuple[object, ...]:
    """Weights that are replaced are read again."""
    return choice.model.folder, choice.hash
