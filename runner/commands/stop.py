"""`diptych stop`: end models that the gateway has loaded."""

import argparse
import asyncio
from collections.abc import Mapping

from runner.commands.tables import print_json
from runner.errors import ModelNotFound
from runner.library import lookup
from runner.remote import Remote


def run(options: argparse.Namespace) -> int:
    said = asyncio.run(_stop(Remote.of(options.configuration), options.model))
    if options.json:
        print_json(said)
    else:
        for model, what in said.items():
            print(f"{model}: {what}")
    return 0 if "not loaded" not in said.values() else ModelNotFound.exit_code


async def _stop(remote: Remote, models: list[str]) -> dict[str, str]:
    state = await remote.state()
    loaded = {str(entry.get("name")): str(entry.get("name")) for entry in state["models"]}
    return {model: await _stop_one(remote, loaded, model) for model in models}


async def _stop_one(remote: Remote, loaded: Mapping[str, str], model: str) -> str:
    """The gateway would look for a repo that it has not loaded on the hub: that is not what is asked here."""
    meant = loaded.get(model) or lookup(loaded, model)
    return await remote.stop(meant or model) if meant or "/" not in model else "not loaded"
