"""Who may call the gateway: keys, hosts, pages."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.runner.gateway.live import Gateway
from tests.runner.live import ROOT
from tests.runner.pretend import pretend_model
from tests.waiting import PATIENCE


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = pretend_model(tmp_path_factory.mktemp("models") / "a")
    settings = {
        "keys": ["first", "second"],
        "origins": ["https://chat.example.org"],
        "hosts": ["box.example.org"],
    }
    with Gateway({"a": folder}, key="second", **settings) as gateway:
        yield gateway


def test_every_key_opens_and_nothing_else_does(gateway: Gateway) -> None:
    assert gateway.events("a")[-1]["done"] is True
    for header in ("Bearer first", "Bearer second", "bearer first", "BEARER second"):
        assert httpx2.get(f"{gateway.url}/models", headers={"Authorization": header}).status_code == 200
    for header in (
        "",
        "Bearer",
        "first",
        "Bearer firs",
        "Bearer firstsecond",
        "Basic first",
        "Bearer f\u00e4",
    ):
        refused = httpx2.get(f"{gateway.url}/models", headers={"Authorization": header.encode("latin-1")})
        assert refused.status_code == 401
        assert "API key" in refused.json()["error"]


def test_the_health_of_the_gateway_needs_no_key(gateway: Gateway) -> None:
    assert httpx2.get(f"{gateway.url}/healthz").json() == {"status": "ok"}
    assert httpx2.get(f"{gateway.url}/metrics").status_code == 401


def test_a_name_that_is_not_ours_is_refused(gateway: Gateway) -> None:
    assert gateway.http.get("/models", headers={"Host": "box.example.org"}).status_code == 200
    refused = gateway.http.get("/models", headers={"Host": "evil.example.net:11435"})
    assert refused.status_code == 403
    assert "--allow-host evil.example.net" in refused.json()["error"]


def test_a_foreign_page_is_refused_and_a_named_one_may_read(gateway: Gateway) -> None:
    refused = gateway.http.get("/models", headers={"Origin": "https://evil.example.net"})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
    allowed = gateway.http.get("/models", headers={"Origin": "https://chat.example.org"})
    assert allowed.status_code == 200
    assert allowed.headers["access-control-allow-origin"] == "https://chat.example.org"
    assert allowed.headers["vary"] == "Origin"


def test_refusals_can_be_read_by_an_allowed_page(gateway: Gateway) -> None:
    headers = {"Origin": "https://chat.example.org", "Authorization": "Bearer wrong"}
    refused = httpx2.get(f"{gateway.url}/models", headers=headers)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == "https://chat.example.org"


def test_browsers_ask_before_and_need_no_key_for_it(gateway: Gateway) -> None:
    request = {
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type, authorization",
    }
    answer = httpx2.options(
        f"{gateway.url}/completion", headers={"Origin": "http://localhost:3000", **request}
    )
    assert answer.status_code == 204
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "content-type, authorization"
    refused = httpx2.options(
        f"{gateway.url}/completion", headers={"Origin": "https://evil.example.net", **request}
    )
    assert refused.status_code == 403


def test_other_addresses_than_loopback_need_a_key() -> None:
    command = [sys.executable, "-m", "runner", "serve", "--host", "0.0.0.0", "--port", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 2
    assert "clients need an API key: set --api-key" in done.stderr


def test_keys_come_from_a_file(tmp_path: Path) -> None:
    from runner.cli.commands.serve import settings
    from runner.config import load
    from runner.errors import ConfigInvalid

    file = tmp_path / "keys"
    file.write_text("# ours\nfirst\n\nsecond\n")

    def keys(**flags: str) -> tuple[str, ...]:
        return settings(load(None, {}, flags)).keys

    assert keys(api_key_file=str(file)) == ("first", "second")
    assert keys(api_key="third", api_key_file=str(file)) == ("third", "first", "second")
    file.write_text("# none\n")
    with pytest.raises(ConfigInvalid, match="contains no API keys"):
        keys(api_key_file=str(file))
    with pytest.raises(ConfigInvalid, match="cannot read the API keys"):
        keys(api_key_file=str(tmp_path / "missing"))


# -- names and bodies


@pytest.mark.parametrize(
    "name",
    ["/etc", "..", "../a", "folder:/etc", "a/../../etc", "./a", "~", "C:\\", "hf:../x", "ollama:/etc/passwd"],
)
def test_names_never_become_paths(gateway: Gateway, name: str) -> None:
    refused = gateway.ask(name)
    assert refused.status_code == 404, refused.text
    assert gateway.models().keys() <= {"a"}


def test_a_folder_that_is_a_model_cannot_be_reached_by_its_path(gateway: Gateway, tmp_path: Path) -> None:
    secret = pretend_model(tmp_path / "secret")
    for name in (str(secret), f"folder:{secret}"):
        assert gateway.ask(name).status_code == 404


@pytest.mark.parametrize(
    ("body", "status", "words"),
    [
        (b"", 400, "not JSON"),
        (b"[]", 400, "a list"),
        (b"{}", 400, "is missing"),
        (b'{"model": 3}', 400, "model: 3 is not allowed"),
        (b'{"model": "a", "keep_alive": "soon"}', 400, "keep_alive: 'soon' is not a duration"),
        (b'{"model": "a", "keep_alive": []}', 400, "keep_alive"),
        (b'{"model": "a"}', 400, "prompt is missing"),
        (b'{"model": "a", "prompt": ' + b'"x' * (65 * 1024**2), 413, "at most 134217728 are allowed"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bodies_that_are_wrong_are_refused(gateway: Gateway, body: bytes, status: int, words: str) -> None:
    answer = gateway.http.post("/completion", content=body)
    assert (answer.status_code, words in answer.json()["error"]) == (status, True), answer.text
