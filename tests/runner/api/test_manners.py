"""What every dialect does alike: HEAD and OPTIONS, pages that may call, paths where nothing is."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

PAGE = "https://chat.example.org"
# Of each dialect a path to read and one to post to.
READ = ("/models", "/v1/models", "/api/tags", "/")
POST = ("/completion", "/v1/chat/completions", "/v1/messages", "/api/chat")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    folder = pretend_model(tmp_path_factory.mktemp("models") / "a")
    with Gateway({"a": folder}, origins=[PAGE]) as gateway:
        yield gateway


def message(answer: httpx2.Response) -> str:
    error = answer.json()["error"]
    return str(error["message"] if isinstance(error, dict) else error)


@pytest.mark.parametrize("path", READ)
def test_what_can_be_read_can_be_asked_for_its_head(gateway: Gateway, path: str) -> None:
    whole, head = gateway.http.get(path), gateway.http.head(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == whole.headers["content-type"]


@pytest.mark.parametrize(("path", "methods"), [*((path, {"GET", "HEAD"}) for path in READ), *((path, {"POST"}) for path in POST)])  # fmt: skip
def test_options_says_which_methods_there_are(gateway: Gateway, path: str, methods: set[str]) -> None:
    answer = gateway.http.options(path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert set(answer.headers["allow"].split(", ")) == methods | {"OPTIONS"}


@pytest.mark.parametrize("path", POST)
def test_another_method_is_a_405_that_says_which_there_are(gateway: Gateway, path: str) -> None:
    for method in ("GET", "DELETE", "PATCH"):
        answer = gateway.http.request(method, path)
        assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
        assert f"{path} does not support {method}" in message(answer)
    head = gateway.http.head(path)
    assert (head.status_code, head.content) == (405, b"")


@pytest.mark.parametrize(
    ("path", "near"),
    [
        ("/complete", "/completion"),
        ("/v1/chat/completion", "/v1/chat/completions"),
        ("/v1/image/generation", "/v1/images/generations"),
        ("/api/chats", "/api/chat"),
        ("/api/tag", "/api/tags"),
        ("/api/%00%F0%9F%90%9F" + "x" * 5000, "/api/"),
    ],
)
def test_where_nothing_is_the_nearest_path_is_named(gateway: Gateway, path: str, near: str) -> None:
    for method in ("GET", "POST", "OPTIONS"):
        answer = gateway.http.request(method, path)
        assert answer.status_code == 404
        assert "; the nearest is " + near in message(answer)
    assert gateway.http.head(path).status_code == 404


@pytest.mark.parametrize("path", [*READ, *POST])
def test_an_allowed_page_may_call_and_others_may_not(gateway: Gateway, path: str) -> None:
    request = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    before = gateway.http.options(path, headers={"Origin": PAGE, **request})
    assert (before.status_code, before.headers["access-control-allow-origin"]) == (204, PAGE)
    assert before.headers["access-control-allow-headers"] == "content-type"
    method = "POST" if path in POST else "GET"
    # Also what is refused can be read.
    for body in (
        {"model": "a", "prompt": "x", "messages": [{"role": "user", "content": "x"}], "stream": False},
        {},
    ):
        answer = gateway.http.request(method, path, json=body, headers={"Origin": PAGE})
        assert answer.headers["access-control-allow-origin"] == PAGE
    refused = gateway.http.request(method, path, json={}, headers={"Origin": "https://evil.example.net"})
    assert refused.status_code == 403
    assert "access-control-allow-origin" not in refused.headers
