"""The reference's side of the toys: modules of its own classes with the same weights, saved as it saves them, and run."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from msgspec import structs

from models.files import LocalModel
from pipelines.base import ControlNetChoice, ImageRequest
from tests.pipelines import qwen_reference
from tests.pipelines.modular_reference import save_modular
from tests.pipelines.toys import TOYS, Config, Part, draw, local, write_texts

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
transformers = pytest.importorskip("transformers")


def module(part: Part) -> Any:
    """A component with the drawn weights."""
    if part.library == "diffusers":
        made = getattr(diffusers, part.name).from_config(part.config)
    else:
        kind = getattr(transformers, part.name)
        made = kind(kind.config_class.from_dict(part.config))
    with torch.no_grad():
        for name, tensor in made.state_dict().items():
            if not name.endswith(("num_batches_tracked", "position_ids")):
                tensor.copy_(torch.tensor(draw(name, tuple(tensor.shape))))
    return made.eval()


def save(name: str, folder: Path, scheduler: Config | None = None, **index: Any) -> tuple[Any, LocalModel]:
    """The reference's pipeline, and the same model as we see it after the reference has saved it."""
    toy = TOYS[name]
    texts = folder / "texts"
    write_texts(toy, texts, scheduler, **index)
    parts: dict[str, Any] = {part: module(content) for part, content in toy.parts.items()}
    if toy.modular:
        return save_modular(toy, parts, texts, folder / "saved", name)
    for part in toy.tokenizers:
        parts[part] = transformers.AutoTokenizer.from_pretrained(texts / part)
    parts["scheduler"] = diffusers.FlowMatchEulerDiscreteScheduler.from_config(scheduler or toy.scheduler)
    if toy.processor is not None:
        parts["processor"] = None  # it cannot be saved as a stand-in
    pipeline = getattr(diffusers, toy.pipeline)(**parts, **toy.index | index)
    pipeline.save_pretrained(folder / "saved")
    if toy.processor is not None:
        shutil.copytree(texts / "processor", folder / "saved" / "processor")
        pipeline.processor = qwen_reference.processor(toy.processor, pipeline.tokenizer)
        qwen_reference.tell_positions(pipeline.text_encoder)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline, local(folder / "saved", name)


def drawn(pipeline: Any, request: ImageRequest) -> list[np.ndarray]:
    """A request's pictures by the class that the reference has for it."""
    if "QwenImageEdit" in type(pipeline).__name__:
        with qwen_reference.sizes_of_a_toy(side=64):
            return inpainted(pipeline, request) if request.mask is not None else pictures(pipeline, request)
    if request.mask is not None:
        return inpainted(pipeline, request)
    return pictures(pipeline, request) if request.strength is None else from_picture(pipeline, request)


def pictures(pipeline: Any, request: ImageRequest, **more: Any) -> list[np.ndarray]:
    """What the reference makes of a request; `more` is what its pipeline is called with beside."""
    generator = torch.Generator("cpu").manual_seed(request.seed)
    made = pipeline(
        prompt=request.prompt,
        height=request.height,
        width=request.width,
        num_inference_steps=request.steps,
        num_images_per_prompt=request.n,
        generator=generator,
        output_type="pil",
        **arguments(pipeline, request) | more,
    )
    return [np.asarray(picture) for picture in getattr(made, "images", made)]


def from_picture(pipeline: Any, request: ImageRequest) -> list[np.ndarray]:
    """The same, started from the request's first picture."""
    picture = PIL.Image.fromarray(request.images[0])
    if isinstance(pipeline, diffusers.Flux2KleinPipeline):
        return _klein_from_picture(pipeline, request, picture)
    name = type(pipeline).__name__.replace("Pipeline", "Img2ImgPipeline")
    starting = getattr(diffusers, name)(**pipeline.components)
    starting.set_progress_bar_config(disable=True)
    more = arguments(pipeline, request)
    generator = torch.Generator("cpu").manual_seed(request.seed)
    made = starting(
        prompt=request.prompt,
        image=picture,
        height=request.height,
        width=request.width,
        strength=request.strength,
        num_inference_steps=request.steps,
        num_images_per_prompt=request.n,
        generator=generator,
        **more,
    )
    return [np.asarray(picture) for picture in made.images]


def inpainted(pipeline: Any, request: ImageRequest) -> list[np.ndarray]:
    """The same, with the request's mask, in the size of its picture. The reference leaves the pasting to its caller."""
    assert request.mask is not None
    inpainting = getattr(diffusers, INPAINTING[type(pipeline).__name__])(**pipeline.components)
    if "is_distilled" in pipeline.config:
        inpainting.register_to_config(is_distilled=pipeline.config.is_distilled)
    inpainting.set_progress_bar_config(disable=True)
    picture, *references = (PIL.Image.fromarray(image) for image in request.images)
    more = arguments(pipeline, structs.replace(request, images=()))
    if references:
        (more["image_reference"],) = references
    if "max_area" in more:
        more |= {"max_area": picture.width * picture.height, "_auto_resize": False}
    made = inpainting(
        prompt=request.prompt,
        image=picture,
        mask_image=PIL.Image.fromarray(request.mask.astype(np.uint8) * 255),
        height=picture.height,
        width=picture.width,
        strength=1.0 if request.strength is None else request.strength,
        num_inference_steps=request.steps,
        num_images_per_prompt=request.n,
        generator=torch.Generator("cpu").manual_seed(request.seed),
        **more,
    )
    return [np.where(request.mask[..., None], np.asarray(one), request.images[0]) for one in made.images]


INPAINTING = {
    "Flux2KleinPipeline": "Flux2KleinInpaintPipeline",
    "ZImagePipeline": "ZImageInpaintPipeline",
    "FluxPipeline": "FluxInpaintPipeline",
    "QwenImagePipeline": "QwenImageInpaintPipeline",
    "QwenImageEditPipeline": "QwenImageEditInpaintPipeline",
    "FluxFillPipeline": "FluxFillPipeline",
    "FluxKontextPipeline": "FluxKontextInpaintPipeline",
}


class _Scheduled:
    """A net that is left out of the steps outside of a part: the reference's pipeline for Z-Image cannot do that."""

    def __init__(self, net: Any, choice: ControlNetChoice, steps: int) -> None:
        self._forward, self._choice, self._steps, self._step = net.forward, choice, steps, 0

    def __call__(self, *args: Any, conditioning_scale: float, **more: Any) -> Any:
        scale = self._choice.scale_at(self._step, self._steps)
        self._step += 1
        return self._forward(*args, conditioning_scale=scale, **more)


def controlled(pipeline: Any, request: ImageRequest, modules: Mapping[str, Any]) -> list[np.ndarray]:
    """The same with ControlNets, by their names."""
    choices = request.controlnets
    images = [PIL.Image.fromarray(image) for image in request.control_images]
    nets = list(dict.fromkeys(modules[one.name] for one in choices))
    scales, modes = [one.scale for one in choices], [one.mode for one in choices]
    several = len(choices) > 1
    more: dict[str, Any] = {"control_image": images, "controlnet_conditioning_scale": scales}
    if not several:
        more = {name: value for name, (value,) in more.items()}
    name = "ZImageControlNetPipeline"
    if isinstance(pipeline, diffusers.FluxPipeline):
        name = "FluxControlNetPipeline"
        more["control_guidance_start"] = [one.start for one in choices]
        more["control_guidance_end"] = [one.end for one in choices]
        more["control_mode"] = modes if several else modes[0]
    else:
        nets[0].forward = _Scheduled(nets[0], choices[0], request.steps or 0)
    parts = {key: part for key, part in pipeline.components.items() if part is not None}
    net = diffusers.FluxMultiControlNetModel(nets) if several else nets[0]
    called = getattr(diffusers, name)(**parts, controlnet=net)
    called.set_progress_bar_config(disable=True)
    return pictures(called, request, **more)


def _klein_from_picture(pipeline: Any, request: ImageRequest, picture: Any) -> list[np.ndarray]:
    """The reference has no such pipeline for klein: its own, given noised latents and the rest of the schedule."""
    from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

    height, width = request.height or picture.height, request.width or picture.width
    steps, strength = request.steps or 4, request.strength or 1.0
    skipped = int(max(steps - min(steps * strength, steps), 0))

    class Shortened(diffusers.FlowMatchEulerDiscreteScheduler):
        def set_timesteps(self, num_inference_steps=None, device=None, sigmas=None, mu=None, timesteps=None):
            super().set_timesteps(num_inference_steps, device, sigmas=sigmas, mu=mu)
            self.timesteps, self.sigmas = self.timesteps[skipped:], self.sigmas[skipped:]

    scheduler = Shortened.from_config(pipeline.scheduler.config)
    side = 2 * pipeline.vae_scale_factor
    rows, columns = height // side, width // side
    scheduler.set_timesteps(
        sigmas=np.linspace(1.0, 1 / steps, steps), mu=compute_empirical_mu(rows * columns, steps)
    )
    with torch.no_grad():
        shown = diffusers.image_processor.VaeImageProcessor(vae_scale_factor=side).preprocess(
            picture, height, width
        )
        clean = pipeline._encode_vae_image(shown, None)
        generator = torch.Generator("cpu").manual_seed(request.seed)
        noise = torch.randn((request.n, *clean.shape[1:]), generator=generator)
    sigma = scheduler.sigmas[0]
    whole, pipeline.scheduler = pipeline.scheduler, scheduler
    try:
        only = structs.replace(request, images=request.images[1:])
        return pictures(pipeline, only, latents=sigma * noise + (1 - sigma) * clean)
    finally:
        pipeline.scheduler = whole


def arguments(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """What a request says beside prompt, size, steps and seed, as each pipeline is told it."""
    return ARGUMENTS[type(pipeline).__name__](pipeline, request)


def _klein(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """The text encoder is read at 9, 18 and 27 of 36 layers; negative prompts go in encoded."""
    layers = pipeline.text_encoder.config.num_hidden_layers
    depths = (layers // 4, layers // 2, 3 * layers // 4)
    options: dict[str, Any] = {"text_encoder_out_layers": depths}
    if request.images:
        options["image"] = [PIL.Image.fromarray(picture) for picture in request.images]
    if request.guidance is not None:
        negative, _ = pipeline.encode_prompt(request.negative_prompt or "", text_encoder_out_layers=depths)
        options |= {"guidance_scale": request.guidance, "negative_prompt_embeds": negative}
    return options


def _flux3(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """The text encoder is read at ninths of its layers."""
    layers = pipeline.text_encoder.config.text_config.num_hidden_layers
    options: dict[str, Any] = {
        "text_encoder_out_layers": tuple(layers * (index + 1) // 9 for index in range(8)),
        "output": "images",
    }
    if request.images:
        options["image"] = [PIL.Image.fromarray(picture) for picture in request.images]
    if request.guidance is not None:
        pipeline.update_components(guider=diffusers.ClassifierFreeGuidance(guidance_scale=request.guidance))
        options["negative_prompt"] = request.negative_prompt
    return options


def _krea2(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    guidance = request.guidance or 0.0
    return {"guidance_scale": guidance, "negative_prompt": request.negative_prompt if guidance else None}


def _z_image(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    return {
        "guidance_scale": request.guidance or 0.0,
        "negative_prompt": request.negative_prompt,
        "cfg_normalization": request.cfg_normalization or False,
        "cfg_truncation": 1.0 if request.cfg_truncation is None else request.cfg_truncation,
    }


def _flux(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """With a negative prompt, and nothing said about true_cfg_scale, our guidance is that."""
    embeds = pipeline.transformer.config.guidance_embeds
    options: dict[str, Any] = {"max_sequence_length": 512 if embeds else 256}
    if request.negative_prompt is None:
        return options | {"guidance_scale": request.guidance or 3.5}
    options["negative_prompt"] = request.negative_prompt
    if request.true_cfg_scale is None:
        return options | {"guidance_scale": 1.0, "true_cfg_scale": request.guidance}
    return options | {"guidance_scale": request.guidance, "true_cfg_scale": request.true_cfg_scale}


def _kontext(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """The trained sizes are those of a model of 1024 pixels: for a toy the picture is brought to a smaller one before."""
    from diffusers.pipelines.flux.pipeline_flux_kontext import PREFERRED_KONTEXT_RESOLUTIONS

    options = _flux(pipeline, request) | {"max_area": (request.width or 0) * (request.height or 0)}
    if not request.images:
        return options
    picture = PIL.Image.fromarray(request.images[0])
    height, width = pipeline.image_processor.get_default_height_width(picture)
    _, *size = min((abs(width / height - w / h), w, h) for w, h in PREFERRED_KONTEXT_RESOLUTIONS)
    side, multiple = pipeline.vae.config.sample_size, 2 * pipeline.vae_scale_factor
    width, height = (int(length * side / 1024) // multiple * multiple for length in size)
    picture = pipeline.image_processor.resize(picture, height, width)
    return options | {"image": picture, "_auto_resize": False}


def _control(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    return _flux(pipeline, request) | {"control_image": PIL.Image.fromarray(request.images[0])}


def _qwen_image(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    """Its guidance needs a negative prompt."""
    negative = " " if request.negative_prompt is None else request.negative_prompt
    return {"true_cfg_scale": request.guidance or 4.0, "negative_prompt": negative}


def _qwen_image_edit(pipeline: Any, request: ImageRequest) -> dict[str, Any]:
    pictures = [PIL.Image.fromarray(image) for image in request.images]
    seen: dict[str, Any] = {} if not pictures else {"image": pictures}
    if seen and type(pipeline).__name__ == "QwenImageEditPipeline":
        seen["image"] = pictures[0]
    return _qwen_image(pipeline, request) | seen


ARGUMENTS = {
    "Flux3DistilledModularPipeline": _flux3,
    "Flux3ModularPipeline": _flux3,
    "Flux2KleinPipeline": _klein,
    "Flux2KleinKVPipeline": _klein,
    "Krea2Pipeline": _krea2,
    "ZImagePipeline": _z_image,
    "FluxPipeline": _flux,
    "FluxKontextPipeline": _kontext,
    "FluxControlPipeline": _control,
    "FluxFillPipeline": _flux,
    "QwenImagePipeline": _qwen_image,
    "QwenImageEditPipeline": _qwen_image_edit,
    "QwenImageEditPlusPipeline": _qwen_image_edit,
    "FluxControlNetPipeline": _flux,
    "ZImageControlNetPipeline": _z_image,
}
