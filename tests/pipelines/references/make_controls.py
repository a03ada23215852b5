"""Writes beside itself controlnets.json (the reference's names and shapes) and controlnets.npz (what it draws with them).

uv run --group reference python -m tests.pipelines.references.make_controls
"""

import json
import tempfile
from pathlib import Path

import numpy as np

from tests.pipelines import control_toys, reference
from tests.pipelines.toys import REFERENCES


def main() -> None:
    modules = {name: control_toys.module(name) for name in control_toys.NETS}
    shapes = {
        name: {key: list(value.shape) for key, value in module.state_dict().items()}
        for name, module in modules.items()
    }
    (REFERENCES / "controlnets.json").write_text(json.dumps(shapes, separators=(",", ":")) + "\n")
    pictures = {}
    for name, (toy, how, plain) in control_toys.STORED.items():
        with tempfile.TemporaryDirectory() as folder:
            pipeline, _ = reference.save(toy, Path(folder))
            request = control_toys.request_with(plain, [control_toys.choice(name, Path(folder), **how)])
            pictures[name] = np.stack(reference.controlled(pipeline, request, modules))
    np.savez_compressed(REFERENCES / "controlnets.npz", **pictures)


if __name__ == "__main__":
    main()
