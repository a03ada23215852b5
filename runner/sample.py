"""The small model that Diptych carries: what draws and talks where no other is named and none is known."""

import sys
from pathlib import Path

from runner.errors import ModelNotFound
from runner.sources import ModelMode

FOLDER = Path(__file__).resolve().parent.parent / "samples" / "shapes"
FOLDERS = {ModelMode.IMAGE: FOLDER, ModelMode.TEXT: FOLDER / "text_encoder"}
REAL = {ModelMode.IMAGE: "black-forest-labs/FLUX.2-klein-4B", ModelMode.TEXT: "Qwen/Qwen3-0.6B"}


def sample(mode: ModelMode) -> str:
    """The sample's name; an installed package has none with it, and says what to do instead."""
    folder = FOLDERS[mode]
    if not folder.is_dir():
        raise ModelNotFound(
            f"no model was named, and Diptych's sample comes with a checkout only; name one, such as {REAL[mode]}"
        )
    return str(folder)


def announce(mode: ModelMode, how: str) -> None:
    """Say on stderr that it is the sample, and how to use a real one."""
    print(
        f"no model named: this is Diptych's sample, which knows coloured shapes only. A real one: {how} {REAL[mode]}",
        file=sys.stderr,
    )
