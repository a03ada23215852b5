"""`diptych mcp`: the gateway's models as tools of agents."""

import argparse

from runner.cli.mcp.work import Work
from runner.errors import ConfigInvalid


def run(options: argparse.Namespace) -> int:
    try:
        from runner.cli.mcp.server import make_server
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in ("mcp", "mcp_types", "pydantic"):
            raise
        raise ConfigInvalid(
            "diptych mcp needs the package mcp: uv sync --extra mcp, or pip install 'diptych[mcp]'"
        ) from None
    config, port = options.configuration, options.http
    server = make_server(Work(config, files=port is None))
    if port is None:
        server.run("stdio")
    else:
        from runner.cli.mcp.over_http import serve

        serve(server, config, port)
    return 0
