"""`diptych rm`: remove models from this machine, after confirmation."""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Sequence

from runner.config import Config
from runner.errors import BadRequest, Busy, KeyNeeded, NoGateway
from runner.gateway.remote import remotes
from runner.library.installed import Removal
from runner.library.removal import plan_removal
from runner.sources.name import ModelName
from runner.terminal import print_json, warn
from runner.units import show_size


def run(options: argparse.Namespace) -> int:
    # Everything is checked before anything is removed.
    plans = [plan_removal(name) for name in options.model]
    _refuse_loaded(plans, options.configuration)
    if not options.yes and not sys.stdin.isatty():
        raise BadRequest(
            "cannot ask for confirmation: standard input is not a terminal; use -y to remove without asking"
        )
    removed = []
    for plan in plans:
        for note in plan.notes:
            warn(f"{plan.model.name}: {note}")
        if options.yes or _confirmed(plan):
            plan.run()
            removed.append({"name": plan.model.name, "also": list(plan.also), "freed": plan.bytes})
            if not options.json:
                print(f"removed {plan.model.name}, which frees {show_size(plan.bytes)}")
    if options.json:
        print_json({"removed": removed})
    return 0 if len(removed) == len(plans) else 1


def _refuse_loaded(plans: Sequence[Removal], config: Config) -> None:
    """A loaded model may still read its files."""
    loaded = asyncio.run(_loaded(config))
    for plan in plans:
        # The gateway calls models by their names without a prefix.
        if ModelName.parse(plan.model.name).text in loaded:
            raise Busy(f"{plan.model.name} is loaded; run `diptych stop {plan.model.name}` first")


async def _loaded(config: Config) -> set[str]:
    """The names of the models that any running gateway has loaded."""
    names = set()
    for remote in remotes(config):
        with contextlib.suppress(NoGateway, KeyNeeded):
            names |= {str(entry.get("name")) for entry in (await remote.state())["models"]}
        remote.close()
    return names


def _confirmed(plan: Removal) -> bool:
    also = f" (and {', '.join(plan.also)}, which is the same model)" if plan.also else ""
    print(
        f"remove {plan.model.name}{also}, {show_size(plan.bytes)}? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
