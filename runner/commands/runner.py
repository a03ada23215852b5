"""`diptych runner`: one model over HTTP."""

import argparse
from dataclasses import fields

from runner import logs, serve


def run(options: argparse.Namespace) -> int:
    logs.setup(options.verbose, options.log_format)
    return serve.run(
        serve.RunnerSettings(
            **{field.name: getattr(options, field.name) for field in fields(serve.RunnerSettings)}
        )
    )
