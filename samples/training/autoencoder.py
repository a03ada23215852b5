"""Train the autoencoder, and give it the statistics by which FLUX.2 normalises latents."""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2

from samples.training.examples import drawings
from samples.training.loop import Average, Budget, Curve, device, half, rate, set_rate
from samples.training.scenes import SIDE

LATENTS = 8
# Noise that the decoder learns to see through; latents are kept from growing out of its reach.
NOISE, PULL = 0.1, 1e-3
SHAPE = {"block_out_channels": (32, 64, 64), "norm_num_groups": 16}
SMALLEST = {"block_out_channels": (8, 8, 8), "norm_num_groups": 4}


def new_model(shape: dict[str, object]) -> AutoencoderKLFlux2:
    return AutoencoderKLFlux2(
        down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3,
        layers_per_block=1, latent_channels=LATENTS, sample_size=SIDE, mid_block_add_attention=False, **shape,
    )  # fmt: skip


def train(
    folder: Path, budget: Budget, count: int, batch: int = 96, shape: dict[str, object] = SHAPE, seed: int = 0
) -> Curve:
    """Write vae into `folder`, where the tokenizer is already."""
    made = drawings(count, folder / "tokenizer" / "tokenizer.json", seed=11)
    pixels = torch.from_numpy(np.concatenate([part.pixels for part in made])).to(device())
    torch.manual_seed(seed)
    model = new_model(shape).to(device(), memory_format=torch.channels_last)
    print(
        f"autoencoder: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M, {len(pixels)} pictures",
        flush=True,
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.99), weight_decay=0.01)
    average, curve = Average(model), Curve("autoencoder")
    kept = max(1, min(500, len(pixels) // 10))
    for step, done in budget.walk(curve):
        set_rate(optimizer, rate(done, step, 1.5e-3))
        picture = to_network(pixels[torch.randint(kept, len(pixels), (batch,), device=device())])
        loss = _loss(model, picture)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(step)
        curve.add(step, loss.detach())
    average.exchange()
    _normalise(model, pixels[:2000])
    curve.notes["psnr"] = _psnr(model, pixels[:kept])
    print(f"autoencoder: {curve.notes['psnr']:.1f} dB on pictures it has not seen", flush=True)
    model.to(torch.float16).save_pretrained(folder / "vae")
    return curve


def _loss(model: AutoencoderKLFlux2, picture: torch.Tensor) -> torch.Tensor:
    with half():
        latents = model.encode(picture).latent_dist
        mean = latents.mean.float()
        again = model.decode(latents.mean + NOISE * torch.randn_like(latents.mean)).sample.float()
    away = again - picture
    # The stored spread says how much noise the latents bear.
    spread = (latents.logvar.float() - 2 * np.log(NOISE)).square().mean()
    return away.square().mean() + 0.1 * away.abs().mean() + PULL * mean.square().mean() + 1e-4 * spread


def to_network(pixels: torch.Tensor) -> torch.Tensor:
    return pixels.permute(0, 3, 1, 2).float() / 127.5 - 1


def patchify(latents: torch.Tensor) -> torch.Tensor:
    """[n, c, h, w] to tokens of 2 x 2 latents, [n, h/2 * w/2, 4c]."""
    n, c, h, w = latents.shape
    parts = latents.reshape(n, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return parts.reshape(n, h * w // 4, 4 * c)


def unpatchify(tokens: torch.Tensor, rows: int) -> torch.Tensor:
    n, count, c = tokens.shape
    columns = count // rows
    parts = tokens.reshape(n, rows, columns, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5)
    return parts.reshape(n, c // 4, 2 * rows, 2 * columns)


@torch.no_grad()
def encode(model: AutoencoderKLFlux2, pixels: torch.Tensor) -> torch.Tensor:
    """Pictures to normalised tokens."""
    tokens = [patchify(model.encode(to_network(part)).latent_dist.mean) for part in pixels.split(250)]
    spread = torch.sqrt(model.bn.running_var + model.config.batch_norm_eps)
    return (torch.cat(tokens) - model.bn.running_mean) / spread


@torch.no_grad()
def decode(model: AutoencoderKLFlux2, tokens: torch.Tensor) -> torch.Tensor:
    """Normalised tokens to 8-bit pictures."""
    tokens = tokens * torch.sqrt(model.bn.running_var + model.config.batch_norm_eps) + model.bn.running_mean
    parts = unpatchify(tokens, int(tokens.shape[1] ** 0.5)).split(100)
    picture = torch.cat([model.decode(part).sample for part in parts])
    return ((picture.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1)


def _normalise(model: AutoencoderKLFlux2, pixels: torch.Tensor) -> None:
    model.bn.running_mean.zero_()
    model.bn.running_var.fill_(1 - model.config.batch_norm_eps)
    tokens = encode(model, pixels).flatten(0, 1)
    model.bn.running_mean.copy_(tokens.mean(0))
    model.bn.running_var.copy_(tokens.var(0))


def _psnr(model: AutoencoderKLFlux2, pixels: torch.Tensor) -> float:
    again = decode(model, encode(model, pixels))
    error = (again.float() - pixels.float()).square().mean().sqrt()
    return float(20 * torch.log10(255 / error))
