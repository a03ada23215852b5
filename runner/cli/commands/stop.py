"""`diptych stop`: unload models from the gateway."""

import argparse
import asyncio
from collections.abc import Mapping

from runner.config import Config
from runner.errors import ModelNotFound
from runner.gateway.remote import reach
from runner.terminal import print_json


def run(options: argparse.Namespace) -> int:
    states = asyncio.run(_stop(options.configuration, dict(zip(options.typed, options.model, strict=True))))
    if options.json:
        print_json(states)
    else:
        for model, state in states.items():
            print(f"{model}: {state}")
    return 0 if "not loaded" not in states.values() else ModelNotFound.exit_code


async def _stop(config: Config, models: Mapping[str, str]) -> dict[str, str]:
    """What became of each model, by the name that was typed."""
    remote, _ = await reach(config)
    try:
        return {typed: await remote.stop(model) for typed, model in models.items()}
    finally:
        remote.close()
