"""`diptych runner`: one model over HTTP."""

import argparse
from dataclasses import fields

from runner import logs
from runner.config import load
from runner.config.options import GATEWAY_ONLY
from runner.server import main
from runner.server.main import RunnerSettings


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    return main.run(settings(options))


def settings(options: argparse.Namespace) -> RunnerSettings:
    """Flags win over the configuration of the model. A supervised runner gets everything from its parent as flags."""
    flags = {field.name: getattr(options, field.name) for field in fields(RunnerSettings)}
    values = {name: value for name, value in flags.items() if value is not None}
    if not options.supervised:
        config = load(options.config)
        configured = config.model(options.model)
        values = {name: value for name, value in configured.items() if name not in GATEWAY_ONLY} | values
        values = {name: config.serve[name].value for name in ("loras", "controlnets", "tiny_vae")} | values
        values |= {name: config.resolve(values[name]) for name in ("model", "draft") if name in values}
    return RunnerSettings(**values)
