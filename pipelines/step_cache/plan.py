"""Where a step cache meets a request and a model: what is refused, what is told, and the cache of a run."""

from dataclasses import replace

from pipelines.base import ImageRequest, PipelineError, Plan
from pipelines.denoise_state import DenoisePlan
from pipelines.planning import Defaults
from pipelines.step_cache.caches import StepCache, step_cache
from pipelines.step_cache.settings import Mag, Settings, parse_step_cache
from pipelines.variants import Variant


def with_step_cache(plan: Plan, request: ImageRequest, variant: Variant, defaults: Defaults) -> Plan:
    """The plan with a warning where little is gained; a PipelineError where it cannot be done."""
    settings = _settings(request, defaults)
    if settings is None:
        return plan
    if request.controls:
        raise PipelineError("step_cache: it cannot be combined with controls, which change what a step adds")
    if isinstance(settings, Mag) and not settings.ratios and not settings.calibrate:
        raise PipelineError(
            "step_cache: mag needs ratios=… of this model; draw once with mag:calibrate, which measures them"
        )
    if not variant.distilled:
        return plan
    warning = "step_cache gains little here and costs quality: this model is distilled to few steps"
    return replace(plan, warnings=(*plan.warnings, warning))


def cache_of(run: DenoisePlan, defaults: Defaults) -> StepCache:
    return step_cache(_settings(run.request, defaults), run.plan.denoise_steps)


def _settings(request: ImageRequest, defaults: Defaults) -> Settings | None:
    """None where none is requested, or the model has no steps that can be skipped."""
    if not request.step_cache or "step_cache" not in defaults.supported_params:
        return None
    return parse_step_cache(request.step_cache)
