"""Pictures side by side, and curves, as small PNG files."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from samples.training.drawing import Pixels

GAP = 4


def sheet(pictures: Sequence[Pixels], columns: int) -> Image.Image:
    rows = -(-len(pictures) // columns)
    height, width = pictures[0].shape[:2]
    whole = np.full((rows * (height + GAP) + GAP, columns * (width + GAP) + GAP, 3), 200, np.uint8)
    for at, picture in enumerate(pictures):
        top, left = GAP + at // columns * (height + GAP), GAP + at % columns * (width + GAP)
        whole[top : top + height, left : left + width] = picture
    return Image.fromarray(whole)


def curves(folder: Path, width: int = 420, height: int = 240) -> Image.Image:
    """The losses of all trainings in a folder, one below another, on a logarithmic scale."""
    files = sorted(folder.glob("*.json"))
    image = Image.new("RGB", (width, height * len(files)), "white")
    for at, file in enumerate(files):
        _curve(ImageDraw.Draw(image), json.loads(file.read_text()), file.stem, width, at * height, height)
    return image


def _curve(draw: ImageDraw.ImageDraw, values: dict, name: str, width: int, top: int, height: int) -> None:
    steps, losses = np.array(values["points"]).T
    logs = np.log10(np.maximum(losses, 1e-9))
    low, high = logs.min(), logs.max()
    x = 60 + (width - 80) * steps / steps.max()
    y = top + 30 + (height - 60) * (1 - (logs - low) / max(high - low, 1e-9))
    draw.rectangle((60, top + 30, width - 20, top + height - 30), outline=(180, 180, 180))
    draw.line(list(zip(x.tolist(), y.tolist(), strict=True)), fill=(35, 75, 220), width=1)
    draw.text((60, top + 10), f"{name}: {values['steps']} steps, {values['seconds']:.0f} s", fill="black")
    draw.text((5, top + 26), f"{10**high:.3g}", fill="black")
    draw.text((5, top + height - 38), f"{10**low:.3g}", fill="black")
