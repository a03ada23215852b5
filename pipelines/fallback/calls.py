"""A request as the arguments of a diffusers pipeline's call. Parameters that the call does not take are refused by name."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from PIL import Image

from pipelines import planning
from pipelines.base import ImageRequest, PipelineError, Plan
from pipelines.inpaint import Canvas, inpaints
from pipelines.limits import MOST_REFERENCES
from pipelines.parameter_types import Parameter
from pipelines.parameters import FAMILY_SPECIFIC
from pipelines.planning import Defaults, sample_side
from pipelines.variants import Variant

# Our names and those of the calls' arguments: the first that a call takes is used.
NAMES: Mapping[str, tuple[str, ...]] = {
    "width": ("width",),
    "height": ("height",),
    "steps": ("num_inference_steps",),
    "guidance": ("guidance_scale", "true_cfg_scale"),
    "negative_prompt": ("negative_prompt",),
    "images": ("image", "control_image"),
    "strength": ("strength",),
    **dict.fromkeys(("mask", "outpaint", "feather"), ("mask_image",)),
}
# Parts of the names of pipelines that look at several pictures, and of those that need one.
MULTI_IMAGE = ("Flux2", "EditPlus")
NEEDS_IMAGE = ("Img2Img", "Edit", "Pix2Pix", "ControlNet", "Upscale", "Depth2Img")
UNGUIDED = 1.0
LANCZOS = Image.Resampling.LANCZOS
SCALE = 8  # of an autoencoder, for pipelines without a value


@dataclass(frozen=True)
class Call:
    """One pipeline's. `variant` is that of the families that have pipelines of our own: what a request leaves open is
    then what it is there. `embedded`: guidance is told to the network, which was made for it."""

    pipeline: Any
    takes: Mapping[str, inspect.Parameter]
    defaults: Defaults
    variant: Variant | None
    embedded: bool

    @classmethod
    def of(cls, pipeline: Any, variant: Variant | None) -> "Call":
        takes = inspect.signature(type(pipeline).__call__).parameters
        network = getattr(pipeline, "transformer", None) or getattr(pipeline, "unet", None)
        embedded = bool(_config(network).get("guidance_embeds", False))
        vae, scale = (
            _config(getattr(pipeline, "vae", None)),
            int(getattr(pipeline, "vae_scale_factor", SCALE)),
        )
        call = cls(pipeline, takes, Defaults(1, None, scale, 2 * scale), variant, embedded)
        defaults = Defaults(
            steps=variant.steps if variant else int(call.default("num_inference_steps") or 1),
            guidance=variant.guidance if variant else call.guidance,
            side=sample_side(_square(_config(network)), _square(vae), scale),
            size_multiple=2 * scale,
            max_references=0 if "strength" in takes else call.pictures,
            supported_params=tuple(one.name for one in FAMILY_SPECIFIC if one.name in takes),
        )
        return replace(call, defaults=defaults)

    @property
    def name(self) -> str:
        return type(self.pipeline).__name__

    def called(self, field: str) -> str | None:
        """The call's name for one of our fields; None where it takes none of them."""
        return next((name for name in NAMES[field] if name in self.takes), None)

    def supports(self, parameter: Parameter) -> bool:
        """Whether it has an effect on this call."""
        if parameter.family_specific:
            return parameter.name in self.defaults.supported_params
        return parameter.name not in NAMES or self.called(parameter.name) is not None

    def default(self, name: str | None) -> Any:
        """The default of an argument; None without one."""
        default = self.takes[name].default if name is not None and name in self.takes else None
        return None if default is inspect.Parameter.empty else default

    @property
    def compares(self) -> bool:
        """Whether guidance has two uses: as an input of the network, and for comparing with a negative prompt."""
        return "true_cfg_scale" in self.takes and "guidance_scale" in self.takes

    @property
    def guidance(self) -> float | None:
        """The guidance of a request that has none."""
        return None if self.compares and not self.embedded else self.default(self.called("guidance"))

    @property
    def pictures(self) -> int:
        """How many input pictures it takes."""
        if self.called("images") is None:
            return 0
        if "mask_image" in self.takes:
            return 1
        return MOST_REFERENCES if any(word in self.name for word in MULTI_IMAGE) else 1

    def plan(self, request: ImageRequest) -> Plan:
        """The request with every choice made; a PipelineError names the first field that this call does not take."""
        self._check(request)
        # Diffusers resizes pictures itself: they are not reduced first.
        plan = self._with_steps(replace(planning.plan(request, self.defaults), reduced=()))
        if self.pipeline.config.get("is_distilled"):
            return _unguided(plan, request, "guidance has no effect: this model is distilled")
        if not self.compares or self.embedded:
            return plan
        if request.negative_prompt is not None:
            guidance = self.default("true_cfg_scale") if plan.guidance is None else plan.guidance
            return replace(plan, guidance=guidance)
        warning = "guidance has no effect without a negative prompt: this model has none of its own"
        return _unguided(plan, request, warning)

    def _with_steps(self, plan: Plan) -> Plan:
        """Older calls truncate steps * strength and newer ones do not, which can differ by a step."""
        if plan.strength is None:
            return replace(plan, denoise_steps=self._scheduled(plan.denoise_steps))
        if not self.truncates_steps:
            return plan
        steps = int(plan.num_inference_steps * plan.strength)
        if steps < 1:
            raise PipelineError(
                f"strength: {plan.strength} leaves none of {plan.num_inference_steps} steps to do"
            )
        return replace(plan, denoise_steps=steps)

    def _scheduled(self, steps: int) -> int:
        """Some schedulers run more steps than are requested."""
        scheduler = getattr(self.pipeline, "scheduler", None)
        if scheduler is None:
            return steps
        try:
            another = type(scheduler).from_config(scheduler.config)
            another.set_timesteps(steps)
        except (
            ValueError,
            TypeError,
        ):  # its pipeline passes it more arguments, and it runs the steps it is given
            return steps
        return len(another.timesteps)

    @property
    def truncates_steps(self) -> bool:
        method = getattr(type(self.pipeline), "get_timesteps", None)
        return method is not None and "int(num_inference_steps * strength)" in inspect.getsource(method)

    @property
    def sized(self) -> bool:
        """Whether it takes a size. If not, it draws in the size of its input picture."""
        return "width" in self.takes

    def _check(self, request: ImageRequest) -> None:
        for field, names in NAMES.items():
            if field in ("width", "height") and request.images:
                continue
            value = getattr(request, field)
            if (value is not None if field == "mask" else value) and self.called(field) is None:
                raise PipelineError(
                    f"{field}: diffusers' {self.name} does not take {' or '.join(names)}; leave it out"
                )
        if request.variations:
            raise PipelineError(
                "variations: the torch engine draws the noise itself; leave them out, or use seeds"
            )
        if len(request.images) > self.pictures:
            raise PipelineError(
                f"images: {len(request.images)} are too many; diffusers' {self.name} takes {self.pictures}"
            )
        if not request.images and any(word in self.name for word in NEEDS_IMAGE):
            raise PipelineError(f"images: a picture is needed; diffusers' {self.name} starts from one")

    def arguments(self, request: ImageRequest, plan: Plan) -> dict[str, Any]:
        """The call's arguments for a request."""
        arguments: dict[str, Any] = {
            "prompt": request.prompt,
            "negative_prompt": request.negative_prompt,
            "width": plan.width,
            "height": plan.height,
            "num_inference_steps": plan.num_inference_steps,
            "strength": plan.strength,
            "output_type": "pil",
            **{name: getattr(request, name) for name in self.defaults.supported_params},
            **self._guidance(request, plan),
            **self._families(),
        }
        if inpaints(request):
            picture, mask = Canvas.of(request, plan).drawn(plan)
            arguments |= {"image": Image.fromarray(picture), "mask_image": Image.fromarray(mask)}
        elif request.images and (name := self.called("images")):
            shown = [Image.fromarray(picture) for picture in request.images]
            if not self.sized:
                shown = [picture.resize((plan.width, plan.height), LANCZOS) for picture in shown]
            arguments[name] = shown if self.pictures > 1 else shown[0]
        return {name: value for name, value in arguments.items() if value is not None and name in self.takes}

    def _guidance(self, request: ImageRequest, plan: Plan) -> dict[str, float | None]:
        name = self.called("guidance")
        if not self.compares:
            # A call's own default does not suit a model that was distilled to need no guidance.
            return {name: 0.0 if plan.guidance is None and self.variant else plan.guidance} if name else {}
        embedded = plan.guidance if self.embedded else None
        if request.negative_prompt is None or request.true_cfg_scale is not None:
            return {"guidance_scale": embedded}
        return {"guidance_scale": UNGUIDED if self.embedded else None, "true_cfg_scale": plan.guidance}

    def _families(self) -> dict[str, Any]:
        """Arguments that our own pipelines read from the files."""
        if self.variant is None:
            return {}
        arguments: dict[str, Any] = {"max_sequence_length": self.variant.tokens}
        if "text_encoder_out_layers" in self.takes:
            layers = self.pipeline.text_encoder.config.num_hidden_layers
            arguments["text_encoder_out_layers"] = (layers // 4, layers // 2, 3 * layers // 4)
        return arguments


def _unguided(plan: Plan, request: ImageRequest, warning: str) -> Plan:
    warnings = (warning,) if (request.guidance or 0) > UNGUIDED else ()
    return replace(plan, guidance=None, warnings=(*plan.warnings, *warnings))


def _config(network: Any) -> Mapping[str, Any]:
    """A component's configuration; empty for classes that are not from diffusers."""
    config = getattr(network, "config", None)
    return config if isinstance(config, Mapping) else {}


def _square(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """The configuration, without a sample size that is not the side of a square."""
    return {} if not isinstance(config.get("sample_size"), int) else config
