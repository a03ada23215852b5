"""`diptych draw`: sends one request, shows its progress on the terminal, writes its pictures to files."""

import argparse
import asyncio
import base64
import contextlib
import logging
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec

from pipelines.images import PictureError
from pipelines.loras import Lora
from pipelines.packing import read_recipe
from pipelines.parameters import ImageParameters, values
from pipelines.recipe import Recipe, RecipeError
from runner import logs
from runner.cli.backend import Backend, choose, local_runner
from runner.cli.grid import Grid
from runner.cli.model_names import model_of, only_model, remember_folder
from runner.cli.output import Target, format_of
from runner.cli.progress import Steps
from runner.config import Config
from runner.errors import BadRequest
from runner.protocol.events import Event
from runner.protocol.image import (
    ImageChunk,
    ImageCompletionRequest,
    ImageDone,
    ImageStarted,
    ImageStep,
    from_base64,
)
from runner.protocol.text import parse
from runner.sources import ModelMode, find
from runner.sources.adapters import SUFFIX
from runner.terminal import print_json

PREVIEWS = 8
LARGEST_INPUT = 64 * 1024**2  # bytes of one input picture


@dataclass(frozen=True)
class DrawOptions:
    """The command line: `parameters` are those of ImageParameters that are given."""

    parameters: Mapping[str, Any]
    out: Path | None = None
    model: str | None = None
    images: tuple[Path, ...] = ()
    mask: Path | None = None
    format: str | None = None
    preview: bool = False
    source: Path | None = None  # --from: a picture whose recipe gives the other parameters
    quantize: str | None = None
    memory: str | int = "auto"
    engine: str = "auto"
    grid: bool = False
    grid_labels: bool = False
    lora_files: tuple[Path, ...] = ()  # adapters given as files, which a runner of our own is told of
    verbose: bool = False
    json: bool = False


def run(options: argparse.Namespace) -> int:
    return draw(options_of(options), options.configuration)


def options_of(options: argparse.Namespace) -> DrawOptions:
    values = {name: value for name, value in vars(options).items() if value is not None}
    parameters = {name: values[name] for name in ImageParameters.__struct_fields__ if name in values}
    if size := getattr(options, "size", None):
        if {"width", "height"} & parameters.keys():
            raise BadRequest("--size cannot be combined with --width or --height")
        parameters |= size
    others = {field.name: values[field.name] for field in fields(DrawOptions) if field.name in values}
    parameters, files = with_adapter_files(parameters)
    return DrawOptions(parameters, **{**others, "images": tuple(options.images or ()), "lora_files": files})


def with_adapter_files(parameters: dict[str, Any]) -> tuple[dict[str, Any], tuple[Path, ...]]:
    """Adapters that are files go by the files' names; only here may a name be a path."""
    if "loras" not in parameters:
        return parameters, ()
    named: list[Lora] = []
    files: dict[str, Path] = {}
    for lora in parameters["loras"]:
        path = Path(os.path.expanduser(lora.name))
        if lora.name.endswith(SUFFIX) and path.is_file():
            if files.setdefault(path.stem, path) != path:
                raise BadRequest(
                    f"--lora: {files[path.stem]} and {path} have the same name; rename one of them"
                )
            lora = msgspec.structs.replace(lora, name=path.stem)
        named.append(lora)
    return parameters | {"loras": tuple(named)}, tuple(files.values())


def draw(options: DrawOptions, config: Config) -> int:
    only = None
    if options.source is not None:
        recipe = recipe_of(options.source)
        only = recipe.index if "n" not in options.parameters and recipe.n > 1 else None
        options = follow(options, recipe)
        options = replace(options, model=options.model or model_of(recipe, config))
    prompt = options.parameters.get("prompt")
    if prompt is None:
        raise BadRequest(
            "no prompt was given: add one, or use --from with a picture that contains its recipe"
        )
    model = options.model or only_model(config, ModelMode.IMAGE, "--model")
    format = format_of(options.out, options.format)
    request = request_of(options, format)
    count = 1 if only is not None else request.count
    grid = Grid(request, options.grid_labels) if options.grid or options.grid_labels else None
    target = Target(options.out, prompt, format, count)
    if options.verbose:
        logs.setup(verbose=True)
    else:
        # Errors reach the user as exceptions; without any handler Python would print warnings.
        logging.getLogger("diptych").addHandler(logging.NullHandler())
    asyncio.run(
        _ask(Session(target, only, options.json, grid), options, config.resolve(model), config, request)
    )
    return 0


async def _ask(
    session: "Session", options: DrawOptions, model: str, config: Config, request: ImageCompletionRequest
) -> None:
    """Options for the runner need a runner of our own."""
    files = await asyncio.to_thread(find, model)
    if called := _arguments(options):
        backend: Backend = local_runner(model, files, config, called, options.engine)
    else:
        backend = await choose(model, files, config)
    await session.run(backend, request)
    await asyncio.to_thread(remember_folder, files)


def recipe_of(path: Path) -> Recipe:
    try:
        return read_recipe(path)
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror or error}") from None
    except (PictureError, RecipeError) as error:
        raise BadRequest(f"{path}: {error}") from None


def follow(options: DrawOptions, recipe: Recipe) -> DrawOptions:
    """The options, with the recipe's parameters where the command line gives none."""
    if recipe.images and not options.images:
        raise BadRequest(
            f"{options.source} was made from {recipe.images} input picture{'s' if recipe.images > 1 else ''}, which it does "
            "not contain; give the same with --image"
        )
    if recipe.masked and options.mask is None:
        raise BadRequest(
            f"{options.source} was made with a mask, which it does not contain; give the same with --mask"
        )
    if recipe.controls and "controls" not in options.parameters:
        raise BadRequest(
            f"{options.source} was made with ControlNets, whose pictures it does not contain; give the same with --control: "
            f"{'; '.join(map(str, recipe.controls))}"
        )
    own = values(recipe)
    if "seeds" in options.parameters:
        del own["seed"]
    parameters = {**own, **options.parameters}
    return replace(options, parameters=parameters)


def request_of(options: DrawOptions, format: str) -> ImageCompletionRequest:
    images = [_read(path) for path in options.images]
    previews = PREVIEWS if options.preview else 0
    request = {**options.parameters, "format": format, "images": images, "previews": previews}
    if controls := options.parameters.get("controls"):
        request["controls"] = [{**how, "image": _read(path)} for path, how in controls]
    if options.mask is not None:
        request["mask"] = _read(options.mask)
    return parse(ImageCompletionRequest, request)


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > LARGEST_INPUT:
            raise BadRequest(f"{path} is too large; the limit is {LARGEST_INPUT >> 20} MiB")
        return base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise BadRequest(f"cannot read {path}: {error.strerror or error}") from None


def _arguments(options: DrawOptions) -> list[str]:
    """The options for the runner."""
    arguments = ["--memory", str(options.memory)] if options.memory != "auto" else []
    if options.engine != "auto":
        arguments += ["--engine", options.engine]
    for path in options.lora_files:
        arguments += ["--lora-file", str(path.absolute())]
    if options.quantize:
        arguments += ["--quantize", options.quantize]
    if options.verbose:
        arguments.append("--verbose")
    return arguments


class Session:
    """Handles the events of one request. With `only`, one picture of a series is written."""

    def __init__(self, target: Target, only: int | None, as_json: bool, grid: Grid | None = None) -> None:
        self._as_json = as_json
        self._target = target
        self._only = only
        self._grid = grid
        self._steps = Steps()
        self._written: list[Path] = []

    async def run(self, backend: Backend, request: ImageCompletionRequest) -> None:
        try:
            self._steps.loading(0.0)
            await backend.start(self._steps.loading)
            await self.draw(backend, request)
        finally:
            self._steps.clear()
            await backend.close()

    async def draw(self, backend: Backend, request: ImageCompletionRequest) -> None:
        try:
            async with contextlib.aclosing(backend.completion(request)) as events:
                async for event in events:
                    self._take(event)
        finally:
            self._steps.clear()
            self._target.remove_preview()

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
            data = from_base64(image)
            self._written.append(self._target.write(data, index))
            if self._grid is not None:
                self._grid.add(data)

    def _finish(self, done: ImageDone) -> None:
        self._steps.clear()
        seeds = [*(done.seeds or [done.seed] * len(self._written))]
        grid = None if self._grid is None else self._target.write_grid(self._grid.file(done))
        for warning in done.warnings or []:
            print(f"diptych: {warning}", file=sys.stderr)
        if self._as_json:
            report = {
                name: value
                for name, value in msgspec.structs.asdict(done).items()
                if name not in ("image", "done", "total") and value is not msgspec.UNSET
            }
            shown = {} if grid is None else {"grid": str(grid)}
            print_json({"paths": [str(path) for path in self._written], **shown, **report})
            return
        for path, seed in zip(self._written, seeds, strict=True):
            print(f"{path}  seed {seed}")
        if grid is not None:
            print(f"{grid}  all of them")
