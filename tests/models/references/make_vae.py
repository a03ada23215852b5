"""Writes vae.npz, the toys encoded and decoded by diffusers, and vae_shapes.json, the real ones' tensors."""

import json
from pathlib import Path

import diffusers
import numpy as np
import torch

from tests.models.vae.toys import ALL, REAL, checkpoint_config, latents, pictures, weight

HERE = Path(__file__).parent


def reference(kind: str, name: str) -> torch.nn.Module:
    """diffusers' own autoencoder of a toy, with the toy's weights."""
    config = checkpoint_config(kind, name)
    vae = getattr(diffusers, config["_class_name"]).from_config(config).eval()
    state = vae.state_dict()
    for key, value in state.items():
        if value.is_floating_point():
            state[key] = torch.from_numpy(weight(key, tuple(value.shape)))
    vae.load_state_dict(state)
    return vae


def channels_last(tensor: torch.Tensor) -> np.ndarray:
    """Of a picture, or of a film of one frame."""
    picture = tensor.squeeze(2) if tensor.ndim == 5 else tensor
    return picture.detach().permute(0, 2, 3, 1).contiguous().numpy()


def channels_first(array: np.ndarray, kind: str) -> torch.Tensor:
    picture = torch.from_numpy(array).permute(0, 3, 1, 2)
    return picture.unsqueeze(2) if kind == "QwenImage" else picture


@torch.no_grad()
def main() -> None:
    kept: dict[str, np.ndarray] = {}
    for kind, name in ALL:
        vae = reference(kind, name)
        encoded = vae.encode(channels_first(pictures(kind, name), kind)).latent_dist
        kept[f"encoded {kind} {name}"] = channels_last(encoded.mode())
        kept[f"spread {kind} {name}"] = channels_last(encoded.std)
        decoded = vae.decode(channels_first(latents(kind, name), kind)).sample
        kept[f"decoded {kind} {name}"] = channels_last(decoded)
    np.savez_compressed(HERE / "vae.npz", **kept)
    shapes = {}
    for name, config in REAL.items():
        with torch.device("meta"):
            vae = getattr(diffusers, config["_class_name"]).from_config(config)
        shapes[name] = {key: list(value.shape) for key, value in vae.state_dict().items()}
    (HERE / "vae_shapes.json").write_text(json.dumps(shapes, separators=(",", ":")))


if __name__ == "__main__":
    main()
