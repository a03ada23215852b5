"""`diptych draw`: one request to whoever draws, its progress on the terminal, its pictures in files."""

import argparse
import asyncio
import base64
import contextlib
import logging
import sys
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from pipelines.images import PictureError
from pipelines.packing import read_recipe
from pipelines.recipe import Recipe, RecipeError
from runner import logs
from runner.cli.backend import OwnRunner, Source, choose
from runner.cli.output import Target, format_of
from runner.cli.steps import Steps
from runner.config import Config, model_arguments
from runner.errors import BadRequest
from runner.inspect.sample import announce, sample
from runner.protocol.events import Event
from runner.protocol.image import ImageChunk, ImageDone, ImageStarted, ImageStep, from_base64
from runner.sources import ModelMode, find
from runner.terminal import print_json

PREVIEWS = 8
LARGEST_INPUT = 64 * 1024**2  # bytes of one input picture


@dataclass(frozen=True)
class DrawOptions:
    """What the command line says; None: not given."""

    prompt: str | None
    out: Path | None = None
    model: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    seed: int | None = None
    images: tuple[Path, ...] = ()
    strength: float | None = None
    negative: str | None = None
    guidance: float | None = None
    cfg_normalization: float | None = None
    cfg_truncation: float | None = None
    true_cfg_scale: float | None = None
    n: int | None = None
    format: str | None = None
    preview: bool = False
    source: Path | None = None  # --from: a picture whose recipe fills what is not given
    quantize: str | None = None
    memory: str | int = "auto"
    engine: str = "auto"
    verbose: bool = False
    json: bool = False


def run(options: argparse.Namespace) -> int:
    given = {field.name: getattr(options, field.name) for field in fields(DrawOptions)}
    return draw(DrawOptions(**{**given, "images": tuple(options.images or ())}), options.configuration)


def draw(options: DrawOptions, config: Config) -> int:
    only = None
    if options.source is not None:
        recipe = recipe_of(options.source)
        only = recipe.index if options.n is None and recipe.n > 1 else None
        options = follow(options, recipe)
    if options.prompt is None:
        raise BadRequest("a prompt is needed, or --from with a picture that carries its recipe")
    model = options.model
    if model is None:
        model = sample(ModelMode.IMAGE)
        announce(ModelMode.IMAGE, "--model")
    format = format_of(options.out, options.format)
    request = _request(options, format)
    count = 1 if only is not None else options.n or 1
    target = Target(options.out, options.prompt, format, count)
    if options.verbose:
        logs.setup(verbose=True)
    else:
        # What goes wrong is told by the exception; without any handler Python would print warnings.
        logging.getLogger("diptych").addHandler(logging.NullHandler())
    asyncio.run(_ask(_Session(target, only, options.json), options, config.resolve(model), config, request))
    return 0


async def _ask(
    session: "_Session", options: DrawOptions, model: str, config: Config, request: dict[str, Any]
) -> None:
    """By a runner of our own when it is to be called in a way of its own."""
    if called := _arguments(options):
        source: Source = OwnRunner(model, [*model_arguments(config.model(model)), *called])
    else:
        source = await choose(model, await asyncio.to_thread(find, model), config)
    await session.run(source, request)


def recipe_of(path: Path) -> Recipe:
    try:
        return read_recipe(path)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}") from None
    except (PictureError, RecipeError) as error:
        raise BadRequest(f"{path}: {error}") from None


def follow(options: DrawOptions, recipe: Recipe) -> DrawOptions:
    """The options with everything that was not given as the recipe has it."""
    if recipe.images and not options.images:
        raise BadRequest(
            f"{options.source} was made from {recipe.images} pictures that it does not hold; give them with --image"
        )
    found: dict[str, Any] = {
        "prompt": recipe.prompt,
        "model": recipe.model or None,
        "width": recipe.width,
        "height": recipe.height,
        "steps": recipe.steps,
        "seed": recipe.seed,
        "strength": recipe.strength,
        "negative": recipe.negative_prompt or None,
        "guidance": recipe.guidance,
        "cfg_normalization": recipe.cfg_normalization,
        "cfg_truncation": recipe.cfg_truncation,
        "true_cfg_scale": recipe.true_cfg_scale,
        "n": recipe.n,
    }
    return replace(
        options, **{name: value for name, value in found.items() if getattr(options, name) is None}
    )


def _request(options: DrawOptions, format: str) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "prompt": options.prompt,
        "width": options.width,
        "height": options.height,
        "steps": options.steps,
        "seed": options.seed,
        "images": [_read(path) for path in options.images] or None,
        "strength": options.strength,
        "negative_prompt": options.negative,
        "guidance": options.guidance,
        "cfg_normalization": options.cfg_normalization,
        "cfg_truncation": options.cfg_truncation,
        "true_cfg_scale": options.true_cfg_scale,
        "n": options.n,
        "format": format,
        "previews": PREVIEWS if options.preview else None,
    }
    return {name: value for name, value in fields.items() if value is not None}


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_INPUT:
            raise BadRequest(f"{path} is too large: at most {LARGEST_INPUT >> 20} MiB are read")
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}") from None


def _arguments(options: DrawOptions) -> list[str]:
    """What the command line says of the runner."""
    found = ["--memory", str(options.memory)] if options.memory != "auto" else []
    if options.engine != "auto":
        found += ["--engine", options.engine]
    if options.quantize:
        found += ["--quantize", options.quantize]
    if options.verbose:
        found.append("--verbose")
    return found


class _Session:
    """One request's events on the terminal and in files. `only`: of several pictures, the one that is kept."""

    def __init__(self, target: Target, only: int | None, as_json: bool) -> None:
        self._as_json = as_json
        self._target = target
        self._only = only
        self._steps = Steps()
        self._written: list[Path] = []

    async def run(self, source: Source, request: dict[str, Any]) -> None:
        try:
            self._steps.loading(0.0)
            await source.start(self._steps.loading)
            async with contextlib.aclosing(source.answer(request)) as events:
                async for event in events:
                    self._take(event)
        finally:
            self._steps.clear()
            self._target.remove_preview()
            await source.close()

    def _take(self, event: Event) -> None:
        if isinstance(event, ImageStarted):
            self._steps.step(0, event.total)
        elif isinstance(event, ImageStep):
            if event.preview:
                self._target.write_preview(from_base64(event.preview))
            self._steps.step(event.step, event.total)
        elif isinstance(event, ImageChunk):
            self._write(event.image, event.index)
        elif isinstance(event, ImageDone):
            if event.image:
                self._write(event.image, 0)
            self._finish(event)

    def _write(self, image: msgspec.Raw, index: int) -> None:
        if self._only in (None, index):
            self._written.append(self._target.write(from_base64(image), index))

    def _finish(self, done: ImageDone) -> None:
        self._steps.clear()
        for warning in done.warnings or []:
            print(f"diptych: {warning}", file=sys.stderr)
        if self._as_json:
            report = msgspec.structs.asdict(done)
            for name in ("image", "done", "total"):
                del report[name]
            if not done.warnings:
                del report["warnings"]
            print_json({"paths": [str(path) for path in self._written], **report})
            return
        for path in self._written:
            print(f"{path}  seed {done.seed}")
