"""Previews from intermediate latents, for families whose latents can be unpacked here."""

from typing import Any

import numpy as np
import torch
from torch.nn.functional import interpolate

from pipelines.base import Pixels

SIDE = 256
# Schedulers with Euler steps, whose last step can be extrapolated to the end.
EULER = ("FlowMatchEulerDiscreteScheduler", "EulerDiscreteScheduler")


class Previews:
    """Previews of one picture, given its latents after each step."""

    def __init__(self, pipeline: Any, width: int, height: int) -> None:
        self._pipeline = pipeline
        self._scale = int(getattr(pipeline, "vae_scale_factor", 8))
        self._rows, self._columns = height // self._scale, width // self._scale
        self._previous: torch.Tensor | None = None

    def clean(self, latents: torch.Tensor) -> torch.Tensor:
        """The predicted clean latents; the latents themselves if they cannot be extrapolated."""
        previous, self._previous = self._previous, latents
        scheduler = self._pipeline.scheduler
        if previous is None or previous.shape != latents.shape or type(scheduler).__name__ not in EULER:
            return latents
        index = scheduler.step_index
        sigma, next_sigma = (float(level) for level in scheduler.sigmas[index - 1 : index + 1])
        return latents - next_sigma * (latents - previous) / (next_sigma - sigma)

    def show(self, latents: torch.Tensor) -> Pixels | None:
        """None if the latents cannot be unpacked."""
        vae = getattr(self._pipeline, "vae", None)
        if vae is None or (unpacked := self._unpacked(latents[:1], vae)) is None:
            return None
        smaller = self._smaller(unpacked).to(vae.dtype)
        flat = "z_dim" not in vae.config  # else a video autoencoder, which decodes one frame
        decoded = vae.decode(smaller if flat else smaller[:, :, None], return_dict=False)[0]
        picture = (decoded if flat else decoded[:, :, 0])[0]
        pixels = picture.float().mul(0.5).add(0.5).clamp(0, 1).mul(255).round()
        return np.asarray(pixels.permute(1, 2, 0).to("cpu", torch.uint8))

    def _unpacked(self, latents: torch.Tensor, vae: Any) -> torch.Tensor | None:
        """The autoencoder's input, [1, channel, row, column]."""
        if latents.ndim == 3:
            rows, columns = self._rows // 2, self._columns // 2
            if latents.shape[1] != rows * columns or latents.shape[2] % 4:
                return None
            latents = latents.reshape(1, rows, columns, -1)
            if hasattr(vae, "bn"):  # FLUX.2's latents are normalized as patches
                latents = _of_patches(latents.permute(0, 3, 1, 2), vae).permute(0, 2, 3, 1)
            squares = latents.reshape(1, rows, columns, -1, 2, 2).permute(0, 3, 1, 4, 2, 5)
            latents = squares.reshape(1, -1, 2 * rows, 2 * columns)
        elif latents.ndim == 5 and latents.shape[2] == 1:
            latents = latents[:, :, 0]
        channels = vae.config.get("latent_channels", vae.config.get("z_dim"))
        if latents.ndim != 4 or latents.shape[1] != channels:
            return None
        return latents if hasattr(vae, "bn") else _scaled(latents, vae.config)

    def _smaller(self, latents: torch.Tensor) -> torch.Tensor:
        ratio = SIDE / self._scale / max(latents.shape[-2:])
        if ratio >= 1:
            return latents
        return interpolate(latents.float(), scale_factor=ratio, mode="area")


def _of_patches(latents: torch.Tensor, vae: Any) -> torch.Tensor:
    mean, variance = (
        value.view(1, -1, 1, 1).to(latents) for value in (vae.bn.running_mean, vae.bn.running_var)
    )
    return latents * torch.sqrt(variance + vae.config.batch_norm_eps) + mean


def _scaled(latents: torch.Tensor, config: Any) -> torch.Tensor:
    """From the scale of the transformer to that of the autoencoder."""

    def row(name: str, otherwise: float) -> torch.Tensor:
        values = config.get(name) or [otherwise]
        return torch.tensor(values).view(1, -1, 1, 1).to(latents)

    spread, mean = row("latents_std", 1.0), row("latents_mean", config.get("shift_factor") or 0.0)
    return latents * spread / config.get("scaling_factor", 1.0) + mean
