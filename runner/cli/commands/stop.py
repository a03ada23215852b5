"""`diptych stop`: end models that the gateway has loaded."""

import argparse
import asyncio

from runner.config import Config
from runner.errors import ModelNotFound
from runner.gateway.remote import reach
from runner.terminal import print_json


def run(options: argparse.Namespace) -> int:
    said = asyncio.run(_stop(options.configuration, options.model))
    if options.json:
        print_json(said)
    else:
        for model, what in said.items():
            print(f"{model}: {what}")
    return 0 if "not loaded" not in said.values() else ModelNotFound.exit_code


async def _stop(config: Config, models: list[str]) -> dict[str, str]:
    remote, _ = await reach(config)
    try:
        return {model: await remote.stop(model) for model in models}
    finally:
        remote.close()
