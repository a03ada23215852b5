"""The diffusion transformers on both sides: what is fed to them, and how ours and the reference are called.

Neither torch nor diffusers is imported before a reference is called.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np

from models.transformers import flux, flux2, flux3, krea2, qwen_image, z_image
from pipelines.latents import (
    flux2_image_ids,
    flux2_reference_ids,
    flux2_text_ids,
    flux3_image_ids,
    flux3_reference_ids,
    flux_image_ids,
    flux_text_ids,
)

if TYPE_CHECKING:
    import torch

Arrays = dict[str, Any]
TIMES = (1.0, 0.6181, 0.0317)


@dataclass(frozen=True)
class Family:
    """A network on both sides. `ours` takes the step of TIMES that is asked for; `theirs` runs one whole forward. `norms`:
    what the weights of its norms are about."""

    reference: str
    module: ModuleType
    network: type
    config: type
    inputs: Callable[[np.random.Generator, Mapping[str, Any], Mapping[str, Any]], Arrays]
    prepare: Callable[[Any, Arrays], tuple[Any, Any]]
    theirs: Callable[[Any, Arrays, float], torch.Tensor]
    norms: float = 1.0


def _normal(random: np.random.Generator, *shape: int) -> np.ndarray:
    return random.standard_normal(shape).astype(np.float32)


def _flux2_inputs(random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]) -> Arrays:
    batch, (rows, columns), references = call["batch"], call["grid"], call.get("references", ())
    positions = [flux2_image_ids(rows, columns)] + ([flux2_reference_ids(references)] if references else [])
    tokens = sum(height * width for height, width in references)
    return {
        "latents": _normal(random, batch, rows * columns, config["in_channels"]),
        "text": _normal(random, batch, call["text"], config["joint_attention_dim"]),
        "references": _normal(random, 1, tokens, config["in_channels"]) if references else None,
        "text_positions": flux2_text_ids(call["text"]),
        "positions": np.concatenate(positions),
        "guidance": call.get("guidance"),
    }


def _flux2_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    references = None if inputs["references"] is None else mx.array(inputs["references"])
    text = mx.array(inputs["text"])
    prepared = network.prepare(text, inputs["text_positions"], inputs["positions"], references)
    return prepared, network.modulation(TIMES, inputs["guidance"])


def _flux2_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    import torch

    latents = torch.tensor(inputs["latents"])
    batch, tokens = latents.shape[:2]
    if inputs["references"] is not None:
        references = torch.tensor(inputs["references"]).expand(batch, -1, -1)
        latents = torch.cat([latents, references], dim=1)
    out = model(
        hidden_states=latents,
        encoder_hidden_states=torch.tensor(inputs["text"]),
        timestep=torch.full((batch,), time),
        img_ids=torch.tensor(inputs["positions"]),
        txt_ids=torch.tensor(inputs["text_positions"]),
        guidance=_guidance(inputs, batch),
        return_dict=False,
    )[0]
    return out[:, :tokens]


def _guidance(inputs: Arrays, batch: int) -> torch.Tensor | None:
    import torch

    return None if inputs["guidance"] is None else torch.full((batch,), inputs["guidance"])


def _flux_inputs(random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]) -> Arrays:
    batch, (rows, columns) = call["batch"], call["grid"]
    return {
        "latents": _normal(random, batch, rows * columns, config["in_channels"]),
        "text": _normal(random, batch, call["text"], config["joint_attention_dim"]),
        "pooled": _normal(random, batch, config["pooled_projection_dim"]),
        "text_positions": flux_text_ids(call["text"]),
        "positions": flux_image_ids(rows, columns),
        "guidance": call.get("guidance"),
    }


def _flux_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    prepared = network.prepare(mx.array(inputs["text"]), inputs["text_positions"], inputs["positions"])
    return prepared, network.modulation(TIMES, mx.array(inputs["pooled"]), inputs["guidance"])


def _flux_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    import torch

    latents = torch.tensor(inputs["latents"])
    return model(
        hidden_states=latents,
        encoder_hidden_states=torch.tensor(inputs["text"]),
        pooled_projections=torch.tensor(inputs["pooled"]),
        timestep=torch.full((len(latents),), time),
        img_ids=torch.tensor(inputs["positions"]),
        txt_ids=torch.tensor(inputs["text_positions"]),
        guidance=_guidance(inputs, len(latents)),
        return_dict=False,
    )[0]


def _z_image_inputs(
    random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]
) -> Arrays:
    (rows, columns), (patch,) = call["grid"], config["all_patch_size"]
    batch, channels = len(call["captions"]), config["in_channels"]
    return {
        "latents": _normal(random, batch, rows * columns, patch * patch * channels),
        "captions": [_normal(random, tokens, config["cap_feat_dim"]) for tokens in call["captions"]],
        "grid": (rows, columns),
        "patch": patch,
        "channels": channels,
    }


def _z_image_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    captions = [mx.array(caption) for caption in inputs["captions"]]
    return network.prepare(captions, *inputs["grid"]), network.modulation(TIMES)


def _z_image_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    """Theirs takes pictures: tokens are put together to pictures before, and taken apart after."""
    import torch

    (rows, columns), patch, channels = inputs["grid"], inputs["patch"], inputs["channels"]
    tokens = torch.tensor(inputs["latents"])
    batch = len(tokens)
    split = tokens.reshape(batch, rows, columns, patch, patch, channels).permute(0, 5, 1, 3, 2, 4)
    pictures = split.reshape(batch, channels, 1, rows * patch, columns * patch)
    captions = [torch.tensor(caption) for caption in inputs["captions"]]
    times = torch.full((batch,), time)
    out = torch.stack(model(list(pictures), times, captions, patch_size=patch, return_dict=False)[0])
    split = out.reshape(batch, channels, rows, patch, columns, patch).permute(0, 2, 4, 3, 5, 1)
    return split.reshape(tokens.shape)


def _qwen_image_inputs(
    random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]
) -> Arrays:
    """`texts`: the tokens of each member of the batch."""
    grids, texts = call["grids"], call["texts"]
    sizes = [rows * columns for rows, columns in grids]
    shape = len(texts), max(texts), config["joint_attention_dim"]
    return {
        "latents": _normal(random, len(texts), sizes[0], config["in_channels"]),
        "text": _normal(random, *shape),
        "texts": texts,
        "grids": grids,
        "references": _normal(random, 1, sum(sizes[1:]), config["in_channels"]) if sizes[1:] else None,
    }


def _qwen_image_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    references = None if inputs["references"] is None else mx.array(inputs["references"])
    prepared = network.prepare(mx.array(inputs["text"]), inputs["texts"], inputs["grids"], references)
    return prepared, network.modulation(TIMES)


def _qwen_image_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    """Texts of different lengths are padded and masked."""
    import torch

    latents, texts = torch.tensor(inputs["latents"]), inputs["texts"]
    batch, tokens = latents.shape[:2]
    if inputs["references"] is not None:
        references = torch.tensor(inputs["references"]).expand(batch, -1, -1)
        latents = torch.cat([latents, references], dim=1)
    mask = torch.arange(max(texts))[None] < torch.tensor(texts)[:, None]
    out = model(
        hidden_states=latents,
        encoder_hidden_states=torch.tensor(inputs["text"]),
        encoder_hidden_states_mask=None if mask.all() else mask,
        timestep=torch.full((batch,), time),
        img_shapes=[[(1, *grid) for grid in inputs["grids"]]] * batch,
        return_dict=False,
    )[0]
    return out[:, :tokens]


def _krea2_inputs(random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]) -> Arrays:
    rows, columns = call["grid"]
    features = config["num_text_layers"] * config["text_hidden_dim"]
    return {
        "latents": _normal(random, len(call["texts"]), rows * columns, config["in_channels"]),
        "texts": [_normal(random, tokens, features) for tokens in call["texts"]],
        "depths": config["num_text_layers"],
        "grid": (rows, columns),
    }


def _krea2_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    texts = [mx.array(text) for text in inputs["texts"]]
    return network.prepare(texts, *inputs["grid"]), network.modulation(TIMES)


def _krea2_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    """Theirs takes texts of one length with a mask, and stands them before the picture."""
    import torch
    from torch.nn.functional import pad

    latents, (rows, columns) = torch.tensor(inputs["latents"]), inputs["grid"]
    counts = [len(text) for text in inputs["texts"]]
    texts = [torch.tensor(text).unflatten(-1, (inputs["depths"], -1)) for text in inputs["texts"]]
    padded = torch.stack([pad(text, (0, 0, 0, 0, 0, max(counts) - len(text)), value=3.0) for text in texts])
    mask = torch.arange(max(counts))[None] < torch.tensor(counts)[:, None]
    grid = torch.cartesian_prod(torch.arange(1), torch.arange(rows), torch.arange(columns))
    return model(
        hidden_states=latents,
        encoder_hidden_states=padded,
        timestep=torch.full((len(latents),), time),
        position_ids=torch.cat([torch.zeros(max(counts), 3), grid]),
        encoder_attention_mask=mask,
        return_dict=False,
    )[0]


def _flux3_inputs(random: np.random.Generator, config: Mapping[str, Any], call: Mapping[str, Any]) -> Arrays:
    (rows, columns), references = call["grid"], call.get("references", ())
    tokens = sum(height * width for height, width in references)
    return {
        "latents": _normal(random, len(call["texts"]), rows * columns, config["in_channels"]),
        "texts": [_normal(random, tokens, config["joint_attention_dim"]) for tokens in call["texts"]],
        "references": _normal(random, 1, tokens, config["cond_in_channels"]) if references else None,
        "positions": flux3_image_ids(rows, columns),
        "reference_positions": flux3_reference_ids(references) if references else None,
        "flow_map": config.get("flow_map", False),
    }


def _flux3_prepare(network: Any, inputs: Arrays) -> tuple[Any, Any]:
    references = None if inputs["references"] is None else mx.array(inputs["references"])
    texts = [mx.array(text) for text in inputs["texts"]]
    prepared = network.prepare(texts, inputs["positions"], references, inputs["reference_positions"])
    return prepared, network.modulation(TIMES)


def _flux3_theirs(model: Any, inputs: Arrays, time: float) -> torch.Tensor:
    """One text after another: theirs has no mask. A flow map is told the next of TIMES."""
    import torch

    following = {}
    if inputs["flow_map"]:
        following["target_timestep"] = torch.tensor([dict(zip(TIMES, (*TIMES[1:], 0.0), strict=True))[time]])
    if inputs["references"] is not None:
        following["image_cond_hidden_states"] = torch.tensor(inputs["references"])
        following["image_cond_ids"] = torch.tensor(inputs["reference_positions"])
    alone = [
        model(
            hidden_states=torch.tensor(latents)[None],
            encoder_hidden_states=torch.tensor(text)[None],
            timestep=torch.tensor([time]),
            img_ids=torch.tensor(inputs["positions"]),
            txt_ids=torch.tensor(flux3.text_positions(len(text))),
            return_dict=False,
            **following,
        )[0]
        for latents, text in zip(inputs["latents"], inputs["texts"], strict=True)
    ]
    return torch.cat(alone)


FLUX2 = Family(
    "Flux2Transformer2DModel",
    flux2,
    flux2.Flux2Transformer,
    flux2.Flux2Config,
    _flux2_inputs,
    _flux2_prepare,
    _flux2_theirs,
)
Z_IMAGE = Family(
    "ZImageTransformer2DModel",
    z_image,
    z_image.ZImageTransformer,
    z_image.ZImageConfig,
    _z_image_inputs,
    _z_image_prepare,
    _z_image_theirs,
)
FLUX = Family(
    "FluxTransformer2DModel",
    flux,
    flux.FluxTransformer,
    flux.FluxConfig,
    _flux_inputs,
    _flux_prepare,
    _flux_theirs,
)
QWEN_IMAGE = Family(
    "QwenImageTransformer2DModel",
    qwen_image,
    qwen_image.QwenImageTransformer,
    qwen_image.QwenImageConfig,
    _qwen_image_inputs,
    _qwen_image_prepare,
    _qwen_image_theirs,
)
KREA2 = Family(
    "Krea2Transformer2DModel",
    krea2,
    krea2.Krea2Transformer,
    krea2.Krea2Config,
    _krea2_inputs,
    _krea2_prepare,
    _krea2_theirs,
    norms=0.0,
)
FLUX3 = Family(
    "Flux3Transformer2DModel",
    flux3,
    flux3.Flux3Transformer,
    flux3.Flux3Config,
    _flux3_inputs,
    _flux3_prepare,
    _flux3_theirs,
)
