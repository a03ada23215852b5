"""`diptych rm`: remove models from this machine, after asking."""

import argparse
import sys

from runner.commands.tables import print_json, warn
from runner.errors import BadRequest
from runner.library.removal import Removal, plan_removal
from runner.memory import show_size


def run(options: argparse.Namespace) -> int:
    # All of them are looked at before the first goes.
    plans = [plan_removal(name) for name in options.model]
    if not options.yes and not sys.stdin.isatty():
        raise BadRequest("nobody can be asked here whether to remove models; -y says yes")
    removed = []
    for plan in plans:
        for note in plan.notes:
            warn(f"{plan.model.name}: {note}")
        if options.yes or _asked(plan):
            plan.run()
            removed.append({"name": plan.model.name, "also": list(plan.also), "freed": plan.bytes})
            if not options.json:
                print(f"removed {plan.model.name}, {show_size(plan.bytes)} are free again")
    if options.json:
        print_json({"removed": removed})
    return 0 if len(removed) == len(plans) else 1


def _asked(plan: Removal) -> bool:
    also = f" (and {', '.join(plan.also)}, which is the same)" if plan.also else ""
    print(
        f"remove {plan.model.name}{also}, {show_size(plan.bytes)}? [y/N] ",
        end="",
        file=sys.stderr,
        flush=True,
    )
    return sys.stdin.readline().strip().lower() in ("y", "yes")
