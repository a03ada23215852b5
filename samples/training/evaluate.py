"""Measure a checkpoint: 500 prompts and 200 edits of scenes that were never trained on, judged by their pixels.

python samples/training/evaluate.py samples/shapes                      through Diptych
python samples/training/evaluate.py samples/shapes --through diffusers  through the reference
"""

import argparse
import json
import random
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from samples.training.classify import Verdict, classify, judge, same
from samples.training.drawing import Pixels, draw
from samples.training.edits import Edit, random_edit
from samples.training.scenes import SIDE, Scene, background_of, held_out_scene
from samples.training.sheet import sheet
from samples.training.words import caption

SEED = 2025
# One request: the prompt, the seed, and the picture to edit. All are drawn at the model's own size.
Ask = tuple[str, int, Pixels | None]
Drawer = Callable[[Sequence[Ask]], Iterator[Pixels]]


@dataclass(frozen=True)
class Case:
    prompt: str
    scene: Scene


def prompts(count: int, seed: int = SEED) -> list[Case]:
    chance = random.Random(seed)
    scenes = [held_out_scene(chance) for _ in range(count)]
    return [Case(caption(scene, chance), scene) for scene in scenes]


def edits(count: int, seed: int = SEED) -> list[Edit]:
    chance = random.Random(seed + 1)
    return [random_edit(chance, held=True) for _ in range(count)]


def tally(cases: Sequence[Case], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Shares of the prompts that ask for something in which it was right; place for two shapes and for all."""
    parts: dict[str, list[bool]] = defaultdict(list)
    for question, verdict in zip(cases, verdicts, strict=True):
        results = {
            "background": verdict.background, "count": verdict.count, "colour": verdict.colour,
            "shape": verdict.kind, "place": verdict.place, "all": verdict.right,
        }  # fmt: skip
        if len(question.scene.shapes) == 2:
            results["place of two"] = verdict.place
        for name, right in results.items():
            if right is not None:
                parts[name].append(right)
    return {name: round(sum(rights) / len(rights), 4) for name, rights in sorted(parts.items())}


def through_diptych(folder: Path, steps: int | None) -> Drawer:
    from pipelines.base import ImageRequest, Picture
    from samples.training.running import load

    pipeline = load(folder)

    def drawn(asks: Sequence[Ask]) -> Iterator[Pixels]:
        for prompt, seed, picture in asks:
            request = ImageRequest(prompt, seed, steps=steps, images=() if picture is None else (picture,))
            yield from (event.pixels for event in pipeline.generate(request) if isinstance(event, Picture))

    return drawn


def through_diffusers(folder: Path, steps: int | None, together: int = 100) -> Drawer:
    import numpy as np
    import torch
    from diffusers import Flux2KleinPipeline
    from PIL import Image

    where = "cuda" if torch.cuda.is_available() else "cpu"
    pipe = Flux2KleinPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(where)
    pipe.set_progress_bar_config(disable=True)
    layers = pipe.text_encoder.config.num_hidden_layers
    options = {
        "width": SIDE, "height": SIDE, "num_inference_steps": steps or 4, "output_type": "np",
        "text_encoder_out_layers": (layers // 4, layers // 2, 3 * layers // 4),
    }  # fmt: skip

    def drawn(asks: Sequence[Ask]) -> Iterator[Pixels]:
        # Pictures to edit go one by one: several would be references of one picture.
        size = 1 if asks[0][2] is not None else together
        for start in range(0, len(asks), size):
            part = asks[start : start + size]
            generators = [torch.Generator("cpu").manual_seed(seed) for _, seed, _ in part]
            image = Image.fromarray(part[0][2]) if part[0][2] is not None else None
            made = pipe(
                prompt=[prompt for prompt, _, _ in part], image=image, generator=generators, **options
            ).images
            yield from (np.round(made * 255)).astype(np.uint8)

    return drawn


def measure(drawer: Drawer, count: int, changes: int) -> tuple[dict[str, object], list[Pixels], list[Pixels]]:
    """What was right, the pictures drawn, and pictures before and after editing."""
    cases, changed = prompts(count), edits(changes)
    pictures = list(drawer([(question.prompt, at + 1, None) for at, question in enumerate(cases)]))
    verdicts = [
        judge(picture, question.scene, background_of(question.scene))
        for picture, question in zip(pictures, cases, strict=True)
    ]
    report: dict[str, object] = {"prompts": count, **tally(cases, verdicts)}
    befores = [draw(edit.before) for edit in changed]
    afters = list(
        drawer([(e.words, at + 1, b) for at, (e, b) in enumerate(zip(changed, befores, strict=True))])
    )
    kinds: dict[str, list[bool]] = defaultdict(list)
    for edit, after in zip(changed, afters, strict=True):
        right = same(classify(after), edit.after)
        kinds[edit.kind].append(right)
        kinds["all"].append(right)
    report["edits"] = {kind: round(sum(rights) / len(rights), 4) for kind, rights in sorted(kinds.items())}
    wrong = [q.prompt for q, verdict in zip(cases, verdicts, strict=True) if not verdict.right]
    report["wrong"] = wrong[:20]
    return report, pictures, [picture for pair in zip(befores, afters, strict=True) for picture in pair]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what a sample checkpoint draws.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--through", choices=("diptych", "diffusers"), default="diptych")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--edits", type=int, default=200)
    parser.add_argument("--steps", type=int, help="default: the model's own")
    parser.add_argument("--sheet", type=Path, help="write a contact sheet to this PNG")
    parser.add_argument("--report", type=Path, help="write the results to this JSON file")
    chosen = parser.parse_args(arguments)
    through = {"diptych": through_diptych, "diffusers": through_diffusers}[chosen.through]
    report, pictures, changed = measure(through(chosen.folder, chosen.steps), chosen.count, chosen.edits)
    print(json.dumps(report, indent=1))
    if chosen.report:
        chosen.report.write_text(json.dumps(report, indent=1) + "\n")
    if chosen.sheet:
        sheet([*pictures[:48], *changed[:32]], 8).save(chosen.sheet, optimize=True)


if __name__ == "__main__":
    main()
