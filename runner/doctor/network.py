"""The gateway that runs on this machine, and the port that the next one would use."""

import asyncio
import errno
import socket
from collections.abc import Iterator

from runner.config import Config
from runner.doctor.findings import Finding, Status
from runner.errors import DiptychError, NoGateway
from runner.gateway.remote import reach
from runner.units import show_size

SECTION = "network"


def network(config: Config) -> Iterator[Finding]:
    host, port = str(config.serve["host"].value), int(config.serve["port"].value)
    gateway, has_port = asyncio.run(_gateway(config, port))
    yield gateway
    yield Finding(SECTION, f"port {port}", Status.OK, "the gateway's") if has_port else _port(host, port)


async def _gateway(config: Config, port: int) -> tuple[Finding, bool]:
    """The running gateway, and whether it has the configured port."""
    try:
        remote, state = await reach(config)
    except NoGateway:
        return Finding(SECTION, "gateway", Status.OK, "none is running; `diptych serve` starts one"), False
    except DiptychError as error:
        return Finding(
            SECTION, "gateway", Status.WARN, error.message, "set DIPTYCH_API_KEY to its key"
        ), False
    remote.close()
    models = "1 model" if len(state["models"]) == 1 else f"{len(state['models'])} models"
    held = f"{models} loaded, {show_size(state['memory'])} of {show_size(state['budget'])}"
    has_port = remote.address.rpartition(":")[2] == str(port)
    return Finding(SECTION, "gateway", Status.OK, f"{remote.address}: {held}"), has_port


def _port(host: str, port: int) -> Finding:
    name = f"port {port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = (
                "taken by another program"
                if error.errno == errno.EADDRINUSE
                else f"{error.strerror or error}"
            )
            advice = "`diptych serve --port N`, or DIPTYCH_PORT, uses another one"
            return Finding(SECTION, name, Status.WARN, f"{reason} ({host})", advice)
    return Finding(SECTION, name, Status.OK, f"free ({host})")
