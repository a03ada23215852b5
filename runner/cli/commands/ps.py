"""`diptych ps`: the models that the gateway has loaded."""

import argparse
import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from runner.cli.model_names import shown
from runner.config import Config
from runner.gateway.remote import State, reach
from runner.inspect.sample import PATHS
from runner.terminal import print_json, span, table
from runner.units import show_size


def run(options: argparse.Namespace) -> int:
    address, state = asyncio.run(_state(options.configuration))
    if options.json:
        print_json({"address": address, **state})
        return 0
    if state["models"]:
        head = ("NAME", "MAKES", "MEMORY", "STATE", "UNTIL", "QUEUE", "PID")
        aliases = {**PATHS, **options.configuration.aliases}
        print(table(head, [row(entry, aliases) for entry in state["models"]]))
    models = "1 model" if len(state["models"]) == 1 else f"{len(state['models'])} models"
    print(f"{models}, {show_size(state['memory'])} of {show_size(state['budget'])}, at {address}")
    return 0


async def _state(config: Config) -> tuple[str, State]:
    remote, state = await reach(config)
    remote.close()
    return remote.address, state


def row(entry: dict[str, Any], aliases: Mapping[str, str], now: datetime | None = None) -> tuple[str, ...]:
    """The row of a loaded model, from its entry in /models."""
    return (
        shown(entry["name"], [alias for alias, model in aliases.items() if model == entry["name"]]),
        entry["mode"],
        show_size(entry["memory"]),
        _activity(entry),
        _until(entry, now or datetime.now(UTC)),
        str(entry["queue"]),
        str(entry["pid"] or ""),
    )


def _activity(entry: dict[str, Any]) -> str:
    if entry["state"] == "loading":
        return f"loading {entry['progress']:.0%}"
    if entry["active"]:
        return f"busy ({entry['active']})"
    idle = entry["idle_for"]
    return f"idle {span(idle)}" if entry["state"] == "ready" and idle is not None else entry["state"]


def _until(entry: dict[str, Any], now: datetime) -> str:
    """When it will be unloaded if no request comes."""
    if entry["until"]:
        left = (datetime.fromisoformat(entry["until"]) - now).total_seconds()
        return f"in {span(left)}"
    return "never" if entry["keep_alive"] is not None and entry["keep_alive"] < 0 else ""
