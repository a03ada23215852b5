"""The options of mcp."""

from runner.cli.arguments.types import port
from runner.cli.parser import Commands


def add(commands: Commands) -> None:
    parser = commands.add(
        "mcp",
        "give agents tools to draw, edit and chat (Model Context Protocol)",
        "Serve the gateway's models to agents by the Model Context Protocol: the tools models, chat, draw and edit. Agents "
        "start this command themselves and talk to it on standard input and output, or connect to it over HTTP. Needs a "
        "gateway (`diptych serve`) and the package mcp (`uv sync --extra mcp`).",
        "",
        "--http 8931",
    )
    parser.add_argument(
        "--http",
        type=port,
        metavar="PORT",
        help="serve over streamable HTTP on this port of 127.0.0.1, at /mcp; 0 picks a free one",
    )
