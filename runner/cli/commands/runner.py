"""`diptych runner`: one model over HTTP."""

import argparse
from dataclasses import fields

from runner import logs
from runner.server import main


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    return main.run(
        main.RunnerSettings(
            **{field.name: getattr(options, field.name) for field in fields(main.RunnerSettings)}
        )
    )
