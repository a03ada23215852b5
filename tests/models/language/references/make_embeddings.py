"""Writes embeddings.npz: transformers' hidden states of toy models, pooled here in NumPy.

uv run --group reference python -m tests.models.language.references.make_embeddings
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.toys import toy_text

FAMILIES = ("llama", "qwen3", "gemma3")
TEXTS = [[5, 77, 300, 12], [400], [9, 8, 7, 6, 5, 4, 3, 2, 630, 100, 50, 25], list(range(20, 90))]
FILE = Path(__file__).parent / "embeddings.npz"


def pooled(states: NDArray[np.float32], mode: str) -> NDArray[np.float32]:
    """One text's states [L, H] in one way."""
    weights = np.arange(1, len(states) + 1, dtype=np.float32)[:, None]
    ways = {
        "cls": lambda: states[0],
        "max": lambda: states.max(axis=0),
        "mean": lambda: states.mean(axis=0),
        "mean_sqrt_len_tokens": lambda: states.sum(axis=0) / np.sqrt(len(states)),
        "weightedmean": lambda: (states * weights).sum(axis=0) / weights.sum(),
        "lasttoken": lambda: states[-1],
    }
    return ways[mode]()


def main() -> None:
    import torch
    from transformers import AutoModel

    stored = {}
    for family in FAMILIES:
        model = AutoModel.from_pretrained(toy_text(family), dtype=torch.float32).eval()
        for index, text in enumerate(TEXTS):
            with torch.no_grad():
                states = model(torch.tensor([text])).last_hidden_state[0].numpy()
            for mode in ("mean", "lasttoken", "max"):
                stored[f"{family}.{index}.{mode}"] = pooled(states, mode)
    np.savez_compressed(FILE, **stored)


if __name__ == "__main__":
    main()
