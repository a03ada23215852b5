"""`diptych stop`: end models that the gateway has loaded."""

import argparse
import asyncio

from runner.commands.tables import print_json
from runner.errors import ModelNotFound
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
    # Whether there is a gateway at all is said before what it thinks of a name.
    await remote.state()
    return {model: await remote.stop(model) for model in models}
