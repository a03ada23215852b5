"""The small sample model that comes with Diptych, used when no other is named."""

import sys
from pathlib import Path

from runner.errors import ModelNotFound
from runner.sources import ModelMode

_RUNNER = Path(__file__).resolve().parents[1]
# In a checkout, and in an installed wheel.
_PLACES = (_RUNNER.parent / "samples" / "shapes", _RUNNER / "shapes")
FOLDER = next((place for place in _PLACES if place.is_dir()), _PLACES[0])
FOLDERS = {ModelMode.IMAGE: FOLDER, ModelMode.TEXT: FOLDER / "text_encoder"}
NAMES = {
    ModelMode.IMAGE: "shapes",
    ModelMode.TEXT: "shapes-chat",
}  # which every command takes, unless an alias has it
PATHS = {name: str(FOLDERS[mode]) for mode, name in NAMES.items()}
REAL = {ModelMode.IMAGE: "black-forest-labs/FLUX.2-klein-4B", ModelMode.TEXT: "Qwen/Qwen3-0.6B"}


def sample(mode: ModelMode) -> str:
    """The sample's path; raises ModelNotFound, with what to do instead, when a package left it out."""
    folder = FOLDERS[mode]
    if not folder.is_dir():
        raise ModelNotFound(
            f"no model was named, and Diptych's sample is not in {folder.parent}; name one, such as {REAL[mode]}"
        )
    return str(folder)


def announce(mode: ModelMode, how: str) -> None:
    """Tell on stderr that this is the sample, and how to use a real model."""
    print(
        "no model was given: using Diptych's sample, which only knows coloured shapes. "
        f"To use another: {how} {REAL[mode]}",
        file=sys.stderr,
    )
