"""The toy klein with sides that divide into groups, as quantization needs them: the others' are odd on purpose."""

import json
from pathlib import Path

import mlx.core as mx

from models.files import LocalModel
from tests.pipelines import toys

# The toy's sides, and those in their place.
TRANSFORMER = {40: 64, 240: 384, 120: 192, 20: 32, 200: 256, 100: 128, 320: 448, 140: 192, 80: 128, 66: 192}
ENCODER = {22: 64, 56: 64, 28: 32, 14: 16, 50: 128}
CONFIGS = {
    "transformer": {
        "attention_head_dim": 32,
        "joint_attention_dim": 192,
        "mlp_ratio": 2.0,
        "axes_dims_rope": [8] * 4,
    },
    "text_encoder": {"hidden_size": 64, "intermediate_size": 128, "head_dim": 16},
}


def write(folder: Path) -> LocalModel:
    model = toys.write("klein", folder)
    for part, stem, sides in (
        ("transformer", "diffusion_pytorch_model", TRANSFORMER),
        ("text_encoder", "model", ENCODER),
    ):
        config = folder / part / "config.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | CONFIGS[part]))
        shapes = {
            name: tuple(sides.get(side, side) for side in shape)
            for name, shape in toys.shapes("klein")[part].items()
        }
        arrays = {name: toys.tensor(name, shape) for name, shape in shapes.items()}
        mx.save_safetensors(str(folder / part / f"{stem}.safetensors"), arrays, {"format": "pt"})
    return model
