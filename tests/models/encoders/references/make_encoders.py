"""Writes encoders.json and encoders.npz: tiny encoders as transformers saves them, and what it computes with them.

uv run --group reference python -m tests.models.encoders.references.make_encoders
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import safe_open

from tests.models.encoders.checkpoints import CASES, REFERENCES, TEXTS, write

Saved = tuple[dict[str, Any], dict[str, tuple[int, ...]]]


def save(name: str, folder: Path, seed: int = 0) -> Saved:
    """A checkpoint that transformers has saved, with weights of ours: its config and the shapes of its tensors."""
    import transformers

    class_name, settings = CASES[name]
    network = getattr(transformers, class_name)
    network(network.config_class(**settings)).save_pretrained(folder)
    config = json.loads((folder / "config.json").read_text())
    with safe_open(folder / "model.safetensors", "np") as file:
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118 - a file is not iterable
    write(folder, config, shapes, seed)
    return config, shapes


def outputs(name: str, folder: Path) -> list[NDArray[np.float32]]:
    """Hidden states of each text, or the logit of a pair: the second half of a text is the other one."""
    import torch
    import transformers

    model = getattr(transformers, CASES[name][0]).from_pretrained(folder, dtype=torch.float32).eval()
    results = []
    for text in TEXTS:
        ids = torch.tensor([text])
        inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
        if name == "bert-scores":
            inputs["token_type_ids"] = torch.tensor([types(text)])
        with torch.no_grad():
            answer = model(**inputs)
        results.append(
            (answer.logits[0] if name.endswith("-scores") else answer.last_hidden_state[0]).numpy()
        )
    return results


def types(text: list[int]) -> list[int]:
    return [int(place >= len(text) // 2) for place in range(len(text))]


def main() -> None:
    cases, arrays = {}, {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            config, shapes = save(name, Path(folder))
            cases[name] = {"config": config, "shapes": shapes}
            for index, value in enumerate(outputs(name, Path(folder))):
                arrays[f"{name}.{index}"] = value
    (REFERENCES / "encoders.json").write_text(json.dumps(cases) + "\n")
    np.savez_compressed(REFERENCES / "encoders.npz", **arrays)


if __name__ == "__main__":
    main()
