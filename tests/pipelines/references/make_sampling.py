"""Writes sampling.npz: schedules by diffusers and noise by torch. Run with the reference group installed."""

from pathlib import Path

import numpy as np
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu

from tests.pipelines.schedules import CONFIGS, STEPS

NOISE = {"odd": (3, 3), "after odd": (5,), "block": (16,), "tail": (3, 37), "latents": (2, 4, 18, 10)}


def main() -> None:
    kept: dict[str, np.ndarray] = {}
    for name, (config, mu) in CONFIGS.items():
        for steps in STEPS:
            if steps == 1 and "shift_terminal" in config:
                continue
            scheduler = FlowMatchEulerDiscreteScheduler(**config)
            scheduler.set_timesteps(steps, sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu)
            kept[f"sigmas {name} {steps}"] = scheduler.sigmas.numpy()
            kept[f"timesteps {name} {steps}"] = scheduler.timesteps.numpy()
    grid = [(tokens, steps) for tokens in (64, 1024, 4096, 4300, 4301, 16384) for steps in STEPS]
    kept["flux2_mu"] = np.array([(t, s, compute_empirical_mu(t, s)) for t, s in grid])
    for seed in (1, 42, 2**31, 2**40 + 5):
        generator = torch.Generator("cpu").manual_seed(seed)
        for name, shape in NOISE.items():  # one stream: the order of the draws is part of the reference
            kept[f"noise {seed} {name}"] = torch.randn(shape, generator=generator).numpy()
    np.savez_compressed(Path(__file__).with_name("sampling.npz"), **kept)


if __name__ == "__main__":
    main()
