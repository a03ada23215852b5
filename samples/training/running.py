"""A checkpoint's pipeline, loaded as the runner loads it on a processor."""

from pathlib import Path
from typing import Any

from runner.engine import device


def load(folder: Path) -> Any:
    """In float32, on the best arithmetic that this machine has, which is arranged before MLX is imported."""
    print(device.prepare())
    from pipelines import pipeline_class
    from pipelines.settings import Settings
    from runner.inspect.mode import detect_model_mode
    from runner.sources import find

    files = find(str(folder))
    model = detect_model_mode(files)
    return pipeline_class(model.pipeline).load(files.fetch(model.mode), Settings(dtype="float32"))
