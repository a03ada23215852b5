"""What the tools do, by the gateway. Knows nothing of the protocol."""

import base64
import binascii
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import msgspec

from runner.config import Config
from runner.errors import BadRequest, ModelNotFound, RunnerFailed
from runner.gateway.remote import Remote, reach
from runner.protocol.image import ImageChunk, ImageCompletionRequest, ImageDone, ImageStep, from_base64
from runner.protocol.text import Message, Options, TextChunk, TextDone, TextRequest

OnStep = Callable[[int, int], Awaitable[None]]
LARGEST_FILE = 64 * 1024**2
TEXT, IMAGE = "text", "image"
NOUNS = {TEXT: "text", IMAGE: "pictures"}


@dataclass
class Drawn:
    pictures: list[bytes] = field(default_factory=list)
    seed: int = 0
    width: int = 0
    height: int = 0
    warnings: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        about = f"{self.width} x {self.height}, seed {self.seed}"
        return "\n".join([about, *(f"warning: {warning}" for warning in self.warnings)])


class Work:
    """`files`: whether pictures may be named by their paths, because the client is a program of this user."""

    def __init__(self, config: Config, files: bool) -> None:
        self._config = config
        self._files = files

    async def models(self) -> list[dict[str, Any]]:
        async with self._gateway() as (remote, loaded):
            return [
                {
                    "name": one["name"],
                    "makes": one["mode"],
                    "capabilities": one["capabilities"],
                    "loaded": one["model"] in loaded,
                }
                for one in await remote.library()
                if one["fault"] is None
            ]

    async def chat(self, prompt: str, model: str | None, system: str | None, options: Options) -> str:
        messages = [Message("system", system)] if system else []
        request = TextRequest(messages=[*messages, Message("user", prompt)], split=True, options=options)
        text = ""
        async with self._gateway() as (remote, _):
            name = await self._model(model, TEXT)
            async with aclosing(remote.completion(name, request)) as events:
                async for event in events:
                    if isinstance(event, TextChunk | TextDone):
                        text += event.content or ""
        return text

    async def draw(
        self, fields: dict[str, Any], model: str | None, pictures: Sequence[str], on_step: OnStep
    ) -> Drawn:
        given = {name: value for name, value in fields.items() if value is not None}
        images = [self._picture(index, picture) for index, picture in enumerate(pictures)]
        request = _checked(given | {"images": images})
        drawn = Drawn()
        async with self._gateway() as (remote, _):
            name = await self._model(model, IMAGE)
            async with aclosing(remote.completion(name, request)) as events:
                async for event in events:
                    if isinstance(event, ImageStep):
                        await on_step(event.step, event.total)
                    if isinstance(event, ImageChunk | ImageDone) and event.image:
                        drawn.pictures.append(from_base64(event.image))
                    if isinstance(event, ImageDone):
                        drawn.seed, drawn.width, drawn.height = event.seed, event.width, event.height
                        drawn.warnings = list(event.warnings or [])
        if not drawn.pictures:
            raise RunnerFailed("the model sent text instead of a picture")
        return drawn

    async def _model(self, name: str | None, mode: str) -> str:
        """By default one that is loaded, or else the first one on this machine."""
        models = await self.models()
        if name is not None:
            for one in models:
                if one["name"] == name and one["makes"] != mode:
                    raise BadRequest(f"model: {name} makes {NOUNS[one['makes']]}, not {NOUNS[mode]}")
            return name
        models = [one for one in models if one["makes"] == mode]
        if not models:
            raise ModelNotFound(
                f"there is no model on this machine that makes {NOUNS[mode]}; diptych pull downloads one"
            )
        return str(min(models, key=lambda one: not one["loaded"])["name"])

    def _picture(self, index: int, picture: str) -> str:
        """Base64 of a picture that is given as a data URI, as base64, or by its path."""
        data = picture.partition(",")[2] if picture.startswith("data:") else picture
        if self._files and not picture.startswith("data:") and os.path.isabs(os.path.expanduser(picture)):
            path = os.path.expanduser(picture)
            if os.path.isfile(path):
                if os.path.getsize(path) > LARGEST_FILE:
                    raise BadRequest(f"pictures[{index}]: {path} has more than {LARGEST_FILE} bytes")
                with open(path, "rb") as file:
                    return base64.b64encode(file.read()).decode()
        try:
            base64.b64decode(data, validate=True)
        except (binascii.Error, ValueError):
            allowed = (
                "an absolute path of a file, a data URI or base64" if self._files else "a data URI or base64"
            )
            raise BadRequest(
                f"pictures[{index}]: {picture[:60]!r} is not a picture; {allowed} is needed"
            ) from None
        return data

    @asynccontextmanager
    async def _gateway(self) -> AsyncIterator[tuple[Remote, set[str]]]:
        """The gateway, found anew each time because it may have been started meanwhile, and what it has loaded."""
        remote, state = await reach(self._config)
        try:
            yield remote, {model["name"] for model in state["models"]}
        finally:
            remote.close()


def _checked(fields: dict[str, Any]) -> ImageCompletionRequest:
    try:
        return msgspec.convert(fields, ImageCompletionRequest)
    except msgspec.ValidationError as error:
        raise BadRequest(str(error).replace(" - at `$.", ": ").rstrip("`")) from None
