"""`diptych stop`: unload models from the gateway."""

import argparse
import asyncio

from runner.config import Config
from runner.errors import ModelNotFound
from runner.gateway.remote import reach
from runner.terminal import print_json


def run(options: argparse.Namespace) -> int:
    states = asyncio.run(_stop(options.configuration, options.model))
    if options.json:
        print_json(states)
    else:
        for model, state in states.items():
            print(f"{model}: {state}")
    return 0 if "not loaded" not in states.values() else ModelNotFound.exit_code


async def _stop(config: Config, models: list[str]) -> dict[str, str]:
    remote, _ = await reach(config)
    try:
        return {model: await remote.stop(model) for model in models}
    finally:
        remote.close()
