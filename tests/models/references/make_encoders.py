"""Write encoders.json and encoders.npz: what transformers says of the toy text encoders.

uv run --group reference python -m tests.models.references.make_encoders
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray

from tests.models.text_encoders.encoder_cases import CASES, Case, weights

HERE = Path(__file__).parent


def reference(case: Case) -> Any:
    """The toy as transformers builds it, with the weights of the case's seed."""
    cls = getattr(transformers, case.reference)
    model = cls(cls.config_class(**case.config)).eval()
    tensors = weights(shapes(model), case.seed)
    model.load_state_dict({name: torch.tensor(value) for name, value in tensors.items()}, strict=False)
    return model


def shapes(model: Any) -> dict[str, list[int]]:
    """What a checkpoint of it holds: tensors that share memory are stored once."""
    actual: dict[int, str] = {}
    for name, value in model.state_dict().items():
        actual.setdefault(value.data_ptr(), name)
    return {name: list(model.state_dict()[name].shape) for name in actual.values()}


def output(case: Case, model: Any) -> NDArray[np.float32]:
    ids, mask = case.batch()
    inputs = {"input_ids": torch.tensor(ids).long()}
    if mask is not None:
        inputs["attention_mask"] = torch.tensor(mask).long()
    with torch.no_grad():
        if case.kind == "clip":
            result = model(**inputs).pooler_output
        elif case.kind == "t5":
            result = model(**inputs).last_hidden_state
        else:
            states = model(**inputs, output_hidden_states=True).hidden_states
            result = torch.cat([states[depth] for depth in case.depths], dim=-1)
    return result.numpy()


def main() -> None:
    described, outputs = {}, {}
    for name, case in CASES.items():
        model = reference(case)
        described[name] = {"config": model.config.to_diff_dict(), "shapes": shapes(model)}
        described[name]["config"] |= dict(case.config)
        outputs[name] = output(case, model)
    (HERE / "encoders.json").write_text(json.dumps(described, indent=1, sort_keys=True) + "\n")
    np.savez_compressed(HERE / "encoders.npz", **outputs)


if __name__ == "__main__":
    main()
