"""Write vision.json and vision.npz: what transformers says of the toy models that see.

uv run --group reference python -m tests.models.references.make_vision
"""

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.models.language.gguf.vision_files import GGUF_CASES
from tests.models.references.make_encoders import shapes
from tests.models.vision.processors import image_processor
from tests.models.vision.vision_cases import (
    CASES,
    GENERATED,
    STORED,
    Case,
    Prompt,
    Size,
    picture,
    tokens_of,
    weights,
)

HERE = Path(__file__).parent


def reference(case: Case) -> Any:
    """The toy as transformers builds it, with the weights of the case's seed."""
    cls = getattr(transformers, case.reference)
    model = cls(cls.config_class(**copy.deepcopy(dict(case.config)))).eval()
    model.generation_config.eos_token_id = None
    tensors = {name: torch.tensor(value) for name, value in weights(shapes(model), case.seed).items()}
    assert not model.load_state_dict(tensors, strict=False).unexpected_keys
    return model


def pixels(case: Case, sizes: list[Size]) -> dict[str, Any]:
    """What transformers' picture processor makes of pictures."""
    options = {"return_row_col_info": True} if case.package in ("idefics3", "smolvlm") else {}
    return dict(image_processor(case)([picture(size) for size in sizes], return_tensors="pt", **options))


def outputs(case: Case, model: Any, prompt: Prompt) -> tuple[NDArray[np.float32], list[int]]:
    """The tokens of a greedy generation, and the logits of the prompt and of all of these but the last."""
    sizes = [part for part in prompt if isinstance(part, tuple)]
    prepared = pixels(case, sizes) if sizes else {}
    ids = tokens_of(prompt, case.rows(prepared), model.config.image_token_id)
    for name in ("num_crops", "rows", "cols"):
        prepared.pop(name, None)
    with torch.no_grad():
        generated = model.generate(
            **_inputs(case, model, ids, len(ids)),
            **prepared,
            max_new_tokens=GENERATED,
            do_sample=False,
            pad_token_id=0,
        )[0].tolist()
        logits = model(**_inputs(case, model, generated[:-1], len(ids)), **prepared).logits[0].numpy()
    return logits, generated[len(ids) :]


def _inputs(case: Case, model: Any, ids: list[int], prompt: int) -> dict[str, Any]:
    """`prompt`: how many of these tokens were not written by the model."""
    inputs = {"input_ids": torch.tensor([ids]), "attention_mask": torch.ones(1, len(ids), dtype=torch.long)}
    if case.token_types:
        placeholder = model.config.image_token_id
        inputs[case.token_types] = torch.tensor(
            [[int(id == placeholder and at < prompt) for at, id in enumerate(ids)]]
        )
    return inputs


def main() -> None:
    described: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for name, case in {**CASES, **GGUF_CASES}.items():
        model = reference(case)
        described[name] = {"config": model.config.to_diff_dict(), "shapes": shapes(model), "written": []}
        for number, prompt in enumerate(case.prompts):
            logits, written = outputs(case, model, prompt)
            arrays[f"{name}/{number}"] = logits[-STORED:]
            described[name]["written"].append(written)
    (HERE / "vision.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(HERE / "vision.npz", **arrays)


if __name__ == "__main__":
    main()
