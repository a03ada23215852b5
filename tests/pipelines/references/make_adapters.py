"""Writes adapters.npz beside itself: what the reference draws with adapters of every format.

uv run --group reference python -m tests.pipelines.references.make_adapters
"""

import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from tests.pipelines import reference
from tests.pipelines.adapter_files import CASES, REQUESTS, toy_of
from tests.pipelines.adapter_reference import adapted_picture
from tests.pipelines.toys import REFERENCES


def main() -> None:
    pipelines: dict[str, Any] = {}
    pictures = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            toy = toy_of(case)
            if toy not in pipelines:
                pipelines[toy] = reference.save(toy, Path(folder) / toy)[0]
            pictures[name] = adapted_picture(pipelines[toy], REQUESTS[toy], list(case), list(case.values()))
    np.savez_compressed(REFERENCES / "adapters.npz", **pictures)


if __name__ == "__main__":
    main()
