"""Ollama's /api/delete and /api/copy, which change the models on this machine."""

import asyncio
from typing import Annotated

from msgspec import Meta, Struct

from runner.api.ollama.models import ModelCatalog
from runner.errors import BadRequest, Busy, ModelNotFound
from runner.gateway.app import Gateway
from runner.library.installed import Removal
from runner.library.ollama import copy_manifest
from runner.library.removal import plan_removal
from runner.protocol.text import parse_body
from runner.sources.base import shorten
from runner.sources.name import LATEST, NAME_PATTERN, ModelName, parse_ollama_name

Name = Annotated[str, Meta(min_length=1)]


class CopyRequest(Struct, frozen=True):
    source: Name
    destination: Annotated[str, Meta(min_length=1, extra_json_schema={"pattern": NAME_PATTERN})]


class Changes:
    def __init__(self, gateway: Gateway, catalog: ModelCatalog) -> None:
        self._gateway = gateway
        self._catalog = catalog

    async def delete(self, name: str) -> None:
        """Like `diptych rm`, but a loaded model that is idle is unloaded first."""
        if alias := self._alias(name):
            raise BadRequest(f"{alias} is an alias from the configuration; delete the model by its own name")
        plan = await asyncio.to_thread(_plan, name)
        await self._end(plan)
        await asyncio.to_thread(plan.run)
        self._gateway.resolver.forget()

    async def _end(self, plan: Removal) -> None:
        # The gateway's names of models have no prefix.
        going = {ModelName.parse(name).text for name in (plan.model.name, *plan.also)}
        for loaded in self._gateway.pool.loaded:
            if loaded.model.name not in going or ModelName.parse(loaded.model.argument).source == "folder":
                continue
            if not loaded.idle:
                raise Busy(
                    f"{loaded.model.name} is in use; try again when its requests have finished", retry_after=5
                )
            await self._gateway.pool.stop(loaded.model.argument)

    async def copy(self, body: bytes) -> None:
        request = parse_body(CopyRequest, body)
        if alias := self._alias(request.destination):
            raise BadRequest(f"destination: {alias} is already an alias, which would take precedence")
        destination = parse_ollama_name(request.destination)
        if destination is None:
            raise BadRequest(
                f"destination: {shorten(request.destination)} is not a name for the Ollama store; use name, name:tag "
                "or namespace/name:tag"
            )
        model = await self._catalog.find(request.source)
        source = ModelName.parse(model.name).ollama if model.source == "ollama" else None
        if source is None:
            raise BadRequest(
                f"source: {shorten(request.source)} is not in the Ollama store, and only its models can be "
                "copied; for others, add an alias to the configuration"
            )
        await asyncio.to_thread(copy_manifest, source, destination)
        self._gateway.resolver.forget()

    def _alias(self, name: str) -> str | None:
        names = (name, name.removesuffix(LATEST))
        return next((one for one in names if one in self._gateway.resolver.aliases), None)


def _plan(name: str) -> Removal:
    try:
        return plan_removal(name, folders=False)
    except ModelNotFound:
        if not name.endswith(LATEST):
            raise
        return plan_removal(name.removesuffix(LATEST), folders=False)
