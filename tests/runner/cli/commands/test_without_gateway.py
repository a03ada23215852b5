"""Commands that need the gateway while none runs, or something else runs where it should."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from tests.runner.cli.commands.run import Diptych


@pytest.mark.parametrize("command", [("ps",), ("ps", "--json"), ("stop", "owner/name")])
def test_without_a_gateway_they_say_how_to_start_one(diptych: Diptych, command: tuple[str, ...]) -> None:
    done = diptych(*command)
    assert (done.code, done.out) == (4, "")
    assert "no gateway at http://127.0.0.1:" in done.err
    assert "`diptych serve`" in done.err


WELCOME = b'{"welcome": "this is not a gateway"}'


class Stranger(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(WELCOME)))
        self.end_headers()
        self.wfile.write(WELCOME)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def stranger() -> Iterator[int]:
    with HTTPServer(("127.0.0.1", 0), Stranger) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield server.server_port
        server.shutdown()


def test_another_program_on_its_port_is_not_taken_for_it(
    diptych: Diptych, stranger: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIPTYCH_PORT", str(stranger))
    done = diptych("ps")
    assert (done.code, "another server answers there" in done.err) == (4, True)
