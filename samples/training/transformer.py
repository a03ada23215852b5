"""Train the transformer to draw in a few steps, on straight paths from noise to pictures.

Usually noise and pictures are paired by chance. Then the same noise leads to many pictures, the paths bend, and few
steps give a blur: a second, distilled training has to straighten them. Here the pairs are straight from the beginning:
all that a prompt leaves open is read off the noise. Each free number of a scene is the mean of one channel of its noise,
put through the normal distribution. The noise is still plain normal noise, but noise and prompt together name one
picture, so every path is a line, and four steps arrive where forty would.
"""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2Transformer2DModel
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from transformers import Qwen3ForCausalLM

from samples.training.autoencoder import LATENTS, encode
from samples.training.examples import changes, drawings
from samples.training.loop import Average, Budget, Curve, device, half, rate, set_rate
from samples.training.scenes import FREE

LONG = 512  # tokens of a prompt as the pipeline pads them
CHANNELS = 4 * LATENTS
REFERENCE_TIME = 10
STEPS = (1, 2, 3, 4, 4, 4, 4, 5, 6, 8, 8)  # numbers of steps whose points are trained on most
SHAPE = {
    "num_layers": 2, "num_single_layers": 5, "attention_head_dim": 64, "num_attention_heads": 4,
    "axes_dims_rope": (16, 16, 16, 16), "mlp_ratio": 2.0, "timestep_guidance_channels": 128,
}  # fmt: skip
SMALLEST = {
    "num_layers": 1, "num_single_layers": 1, "attention_head_dim": 32, "num_attention_heads": 2,
    "axes_dims_rope": (8, 8, 8, 8), "mlp_ratio": 2.0, "timestep_guidance_channels": 32,
}  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """Latents and prompts of one kind of example, all on the device."""

    latents: torch.Tensor  # [n, token, CHANNELS]
    references: torch.Tensor | None
    tokens: torch.Tensor  # [n, phrasing, PROMPT]
    freedom: torch.Tensor  # [n, FREE], as standard normal numbers


class Reader:
    """Prompts to what the transformer sees of them: three depths of the language model, side by side."""

    def __init__(self, model: Qwen3ForCausalLM) -> None:
        self.model = model.eval().requires_grad_(False)
        self.pad = model.config.pad_token_id
        layers = model.config.num_hidden_layers
        self.depths = (layers // 4, layers // 2, 3 * layers // 4)

    @torch.no_grad()
    def __call__(self, tokens: torch.Tensor, length: int) -> torch.Tensor:
        tokens = torch.nn.functional.pad(tokens.long(), (0, length - tokens.shape[1]), value=self.pad)
        mask = (tokens != self.pad).long()
        states = self.model(
            input_ids=tokens, attention_mask=mask, output_hidden_states=True, logits_to_keep=1
        )
        return torch.cat([states.hidden_states[depth] for depth in self.depths], dim=-1)


class Drawer:
    """A transformer with the positions of its tokens, called as the pipeline calls it."""

    def __init__(self, model: Flux2Transformer2DModel, side: int) -> None:
        self.model = model
        axis = torch.arange(side, device=device())
        zero = torch.zeros(1, device=device(), dtype=axis.dtype)
        self.picture = torch.cartesian_prod(zero, axis, axis, zero)
        self.reference = torch.cartesian_prod(zero + REFERENCE_TIME, axis, axis, zero)
        self.text = torch.cartesian_prod(zero, zero, zero, torch.arange(LONG, device=device()))

    def __call__(
        self, noisy: torch.Tensor, sigma: torch.Tensor, text: torch.Tensor, reference: torch.Tensor | None
    ) -> torch.Tensor:
        positions = self.picture
        tokens = noisy
        if reference is not None:
            tokens = torch.cat([noisy, reference], dim=1)
            positions = torch.cat([self.picture, self.reference])
        with half():
            velocity = self.model(
                hidden_states=tokens, timestep=sigma, encoder_hidden_states=text, img_ids=positions,
                txt_ids=self.text[: text.shape[1]], guidance=None, return_dict=False,
            )[0]  # fmt: skip
        return velocity[:, : noisy.shape[1]].float()


def new_model(text_width: int, shape: dict[str, object]) -> Flux2Transformer2DModel:
    model = Flux2Transformer2DModel(
        in_channels=CHANNELS, joint_attention_dim=text_width, guidance_embeds=False, **shape
    )
    # Each block starts as doing nothing, which trains faster.
    for name, weight in model.named_parameters():
        if "modulation" in name or name.startswith("norm_out"):
            torch.nn.init.zeros_(weight)
    return model


def sigmas(steps: int, tokens: int) -> list[float]:
    """The pipeline's schedule, without the closing 0."""
    shift = math.exp(compute_empirical_mu(tokens, steps))
    return [shift / (shift + 1 / at - 1) for at in np.linspace(1.0, 1 / steps, steps)]


def random_sigmas(count: int, tokens: int) -> torch.Tensor:
    """Half of them points of the schedules that are used, half of them any, with more of much noise."""
    points = torch.tensor([at for steps in STEPS for at in sigmas(steps, tokens)], device=device())
    used = points[torch.randint(len(points), (count,), device=device())]
    anywhere = torch.rand(count, device=device()).clamp(1e-3, 1)
    anywhere = 3 * anywhere / (1 + 2 * anywhere)
    return torch.where(torch.rand(count, device=device()) < 0.5, used.float(), anywhere)


def noise_for(freedom: torch.Tensor, tokens: int) -> torch.Tensor:
    """Normal noise whose first channels have the means that these free numbers come from."""
    noise = torch.randn(len(freedom), tokens, CHANNELS, device=device())
    free = noise[..., :FREE]
    free += (freedom / math.sqrt(tokens))[:, None] - free.mean(1, keepdim=True)
    return noise


def train(
    folder: Path, budget: Budget, count: int, batch: int = 256, shape: dict[str, object] = SHAPE, seed: int = 0,
    top: float = 1.5e-3, long_from: float = 0.7, resume: bool = False, compiled: bool = False,
) -> Curve:  # fmt: skip
    """Write transformer into `folder`, where the language model and the autoencoder are already.

    Prompts are padded to 64 tokens at first and as far as the pipeline pads them from `long_from` of the way.
    """
    vae = AutoencoderKLFlux2.from_pretrained(folder / "vae", torch_dtype=torch.float32).to(device()).eval()
    reader = Reader(
        Qwen3ForCausalLM.from_pretrained(folder / "text_encoder", dtype=torch.float32).to(device())
    )
    kinds = _pairs(vae, folder / "tokenizer" / "tokenizer.json", count, seed)
    torch.manual_seed(seed)
    model = _model(folder, reader, kinds[0], shape, resume).to(device())
    print(f"transformer: {sum(p.numel() for p in model.parameters()) / 1e6:.2f} M", flush=True)
    if compiled:
        # What cannot be compiled runs as it is.
        torch._dynamo.config.suppress_errors = True
        model.compile_repeated_blocks(dynamic=False)
    drawer = Drawer(model, math.isqrt(kinds[0].latents.shape[1]))
    optimizers = _optimizers(model, top)
    average, curve = Average(model), Curve("transformer")
    for step, done in budget.walk(curve):
        # Two of five batches are edits, which are longer and therefore fewer.
        pairs, size = kinds[step % 5 % 2], (batch, batch * 2 // 3)[step % 5 % 2]
        loss = _loss(drawer, reader, pairs, size, LONG if done >= long_from else pairs.tokens.shape[-1])
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            set_rate(optimizer, rate(done, step, top))
            optimizer.step()
            optimizer.zero_grad()
        average.update(step)
        curve.add(step, loss.detach())
    average.exchange()
    model.to(torch.float16).save_pretrained(folder / "transformer")
    return curve


def _optimizers(model: Flux2Transformer2DModel, top: float) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for what is around them; both move weights at the same pace."""
    inner, outer = [], []
    for name, weight in model.named_parameters():
        (inner if "transformer_blocks" in name and weight.ndim == 2 else outer).append(weight)
    return [
        torch.optim.Muon(inner, lr=top, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
        torch.optim.AdamW(outer, lr=top, betas=(0.9, 0.98), weight_decay=0.01),
    ]


def _loss(drawer: Drawer, reader: Reader, pairs: Pairs, batch: int, length: int) -> torch.Tensor:
    chosen = torch.randint(len(pairs.latents), (batch,), device=device())
    way = torch.randint(pairs.tokens.shape[1], (batch,), device=device())
    picture = pairs.latents[chosen].float()
    noise = noise_for(pairs.freedom[chosen], picture.shape[1])
    sigma = random_sigmas(batch, picture.shape[1])
    noisy = torch.lerp(picture, noise, sigma[:, None, None])
    reference = pairs.references[chosen].float() if pairs.references is not None else None
    velocity = drawer(noisy, sigma, reader(pairs.tokens[chosen, way], length), reference)
    return (velocity - (noise - picture)).square().mean()


def _model(
    folder: Path, reader: Reader, pairs: Pairs, shape: dict[str, object], resume: bool
) -> Flux2Transformer2DModel:
    if resume:
        return Flux2Transformer2DModel.from_pretrained(folder / "transformer", torch_dtype=torch.float32)
    text = reader(pairs.tokens[:64, 0], pairs.tokens.shape[-1])
    model = new_model(text.shape[-1], shape)
    # Depths of the language model differ much in magnitude: start with each number counting the same.
    with torch.no_grad():
        model.context_embedder.weight /= text.flatten(0, 1).std(0).clamp_min(1e-2).cpu()
    return model


def _pairs(vae: AutoencoderKLFlux2, tokenizer: Path, count: int, seed: int) -> tuple[Pairs, Pairs]:
    normal = torch.distributions.Normal(0.0, 1.0)
    pictures: list[list[torch.Tensor]] = []
    for part in drawings(count, tokenizer, 100 * seed + 1):
        pictures.append([_latents(vae, part.pixels), _moved(part.tokens), _moved(part.freedom)])
    edits: list[list[torch.Tensor]] = []
    for change in changes(count * 2 // 3, tokenizer, 100 * seed + 2):
        before, after = _latents(vae, change.before), _latents(vae, change.after)
        edits.append([after, _moved(change.tokens), _moved(change.freedom), before])
    drawn = [torch.cat(parts) for parts in zip(*pictures, strict=True)]
    edited = [torch.cat(parts) for parts in zip(*edits, strict=True)]
    drawn[2], edited[2] = (normal.icdf(free.clamp(1e-6, 1 - 1e-6)) for free in (drawn[2], edited[2]))
    print(f"transformer: {len(drawn[0])} pictures, {len(edited[0])} edits", flush=True)
    return Pairs(drawn[0], None, drawn[1], drawn[2]), Pairs(edited[0], edited[3], edited[1], edited[2])


def _latents(vae: AutoencoderKLFlux2, pixels: np.ndarray) -> torch.Tensor:
    return encode(vae, _moved(pixels)).half()


def _moved(values: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(values).to(device())
