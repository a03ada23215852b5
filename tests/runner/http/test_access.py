"""Who may call a server: hosts and pages. Of a gateway and of a runner alike."""

import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest

from runner.http.access import MAX_HEADERS, Hosts, Origins
from tests.runner.gateway.live import Gateway
from tests.runner.live import Live, tokens
from tests.toys import toy_text
from tests.waiting import PATIENCE


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("localhost:11435", True),
        ("LOCALHOST", True),
        ("app.localhost:1", True),
        ("127.0.0.1:11435", True),
        ("[::1]:11435", True),
        ("192.168.1.7:11435", True),
        ("evil.example.net", False),
        ("localhost.evil.example.net", False),
        ("127.0.0.1.evil.example.net", False),
        ("127.0.0.1@evil.example.net", False),
        ("evil.example.net@localhost", False),
        ("evil.example.net:x@127.0.0.1:11435", False),
        ("localhost/", False),
        ("localhost:port", False),
        ("local host", False),
        ("[::1", False),
        ("", False),
    ],
)
def test_hosts(host: str, allowed: bool) -> None:
    assert Hosts(()).allow(host) is allowed


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:3000", True),
        ("http://127.0.0.1:8080", True),
        ("https://[::1]", True),
        ("http://box:11435", True),
        ("http://box:80", False),
        ("null", False),
        ("file://", True),
        ("app://obsidian.md", True),
        ("tauri://localhost", True),
        ("vscode-webview://1a2b3c", True),
        ("vscode-file://vscode-app", True),
        ("chrome-extension://abc", False),
        ("evil-app://x", False),
        ("https://localhost.evil.example.net", False),
        ("http://192.168.1.7", False),
        ("http://[", False),
    ],
)
def test_origins(origin: str, allowed: bool) -> None:
    assert Origins(()).allow(origin, "box:11435") is allowed


@pytest.mark.parametrize(
    ("pattern", "origin", "allowed"),
    [
        ("https://*.example.org", "https://chat.example.org", True),
        ("https://*.example.org", "https://a.b.example.org", True),
        ("https://*.example.org", "https://example.org", False),
        ("https://*.example.org", "https://chat.example.org.evil.net", False),
        ("https://*.example.org", "https://evil.net:1.example.org", False),
        ("https://*.example.org", "http://chat.example.org", False),
        ("http://box.lan:*", "http://box.lan:3000", True),
        ("http://box.lan:*", "http://box.lan.evil.net:3000", False),
        ("chrome-extension://*", "chrome-extension://abc", True),
        ("http://*", "http://10.0.0.7:3000", True),
        ("https://Chat.Example.org/", "https://chat.example.org", True),
        ("https://a.example.org", "https://axexample.org", False),
    ],
)
def test_a_star_in_an_origin_stands_for_any_text(pattern: str, origin: str, allowed: bool) -> None:
    assert Origins(["https://other.example.net", pattern]).allow(origin, "box:11435") is allowed


@pytest.fixture(scope="module", params=["gateway", "runner"])
def port(request: pytest.FixtureRequest) -> Iterator[int]:
    if request.param == "gateway":
        with Gateway({}) as gateway:
            yield gateway.port
    else:
        with Live(toy_text()) as live:
            yield live.port
            assert live.alive
            assert tokens(live.complete("Still there", num_predict=2))


def status(port: int, *lines: bytes, version: bytes = b"1.1", path: bytes = b"/metrics") -> int:
    """Of a request with exactly these headers."""
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        head = b"\r\n".join([b"GET %s HTTP/%s" % (path, version), *lines, b"Connection: close", b"", b""])
        connection.sendall(head)
        return int(connection.makefile("rb").readline().split()[1])


HOST = b"Host: localhost"


@pytest.mark.parametrize(
    ("lines", "version", "expected"),
    [
        ([HOST], b"1.1", 200),
        ([], b"1.0", 200),  # health checks of old are content with that, and browsers do not speak it
        ([], b"1.1", 400),
        ([b"Host:"], b"1.1", 400),
        ([HOST, HOST], b"1.1", 400),
        ([HOST, b"Host: evil.example.net"], b"1.1", 400),
        ([b"Host: evil.example.net", HOST], b"1.0", 400),
        ([b"Host: evil.example.net@localhost"], b"1.1", 400),
        ([b"Host: evil.example.net"], b"1.1", 403),
        ([b"Host: evil.example.net"], b"1.0", 403),
        ([HOST, b"Origin: https://evil.example.net"], b"1.1", 403),
        ([HOST, b"Origin: null"], b"1.1", 403),
        ([HOST, b"Origin: http://localhost:3000"], b"1.1", 200),
        ([HOST, *[b"X: y"] * (MAX_HEADERS - 2)], b"1.1", 200),
        ([HOST, *[b"X: y"] * MAX_HEADERS], b"1.1", 431),
    ],
)
def test_one_host_of_ours_is_needed_and_no_foreign_page(
    port: int, lines: list[bytes], version: bytes, expected: int
) -> None:
    assert status(port, *lines, version=version) == expected


@pytest.mark.parametrize(
    ("method", "path", "headers"),
    [
        # What a page may send without asking first; and what one may that is of the same origin by its rebound name.
        ("POST", "/completion", {"Origin": "https://evil.example.net", "Content-Type": "text/plain"}),
        ("DELETE", "/load", {"Host": "evil.example.net", "Origin": "http://evil.example.net"}),
        ("DELETE", "/v1/models", {"Host": "evil.example.net"}),
        ("GET", "/v1/models", {"Host": "evil.example.net"}),
    ],
)
def test_a_page_can_neither_use_a_server_nor_end_it(
    port: int, method: str, path: str, headers: dict[str, str]
) -> None:
    body: Any = '{"prompt": "x", "model": "x"}'
    refused = httpx2.request(
        method, f"http://127.0.0.1:{port}{path}", headers=headers, content=body, timeout=PATIENCE
    )
    assert refused.status_code == 403
    assert "evil.example.net" in refused.text


def test_a_runner_answers_to_the_names_and_the_pages_that_it_is_given() -> None:
    names = ("--allow-host", "box.example.org", "--allow-origin", "https://chat.example.org")
    with Live(toy_text(), *names, "--api-key", "secret", key="secret") as live:
        for headers in ({"Host": "box.example.org:1"}, {"Origin": "https://chat.example.org"}):
            assert live.http.get("/v1/models", headers=headers).status_code == 200
        refused = httpx2.get(f"http://127.0.0.1:{live.port}/v1/models", headers={"Host": "box.example.org"})
        assert refused.status_code == 401
