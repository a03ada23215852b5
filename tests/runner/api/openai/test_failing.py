"""What the openai package makes of keys, of runners that die, and of calls; and that who leaves stops the work."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.routing import Route
from starlette.testclient import TestClient

from runner.api.openai.chat import Chat
from runner.api.openai.chat_stream import ChoiceReader
from runner.api.openai.errors import OpenAIErrors, openai_error
from runner.api.openai.images import ImagesCall
from runner.errors import (
    BadRequest,
    Busy,
    HubUnreachable,
    NotEnoughMemory,
    RunnerFailed,
    TooLarge,
    UnknownPath,
    WrongMethod,
)
from runner.gateway.metrics import GatewayMetrics
from runner.http.middleware import RequestContextMiddleware
from runner.http.operation import operation
from runner.protocol.text import TextChunk, TextDone, encode
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

openai = pytest.importorskip("openai", reason="the clients group is not installed")

PROMPT: Any = {"model": "a", "prompt": "The sea"}


def client_of(gateway: Gateway, key: str = "none", **options: Any) -> Any:
    return openai.OpenAI(
        **{"base_url": f"{gateway.url}/v1", "api_key": key, "max_retries": 0, "timeout": 60, **options}
    )


def test_a_wrong_key_has_the_code_that_clients_look_for(tmp_path: Path) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a")}, keys=["secret"], key="secret") as gateway:
        with pytest.raises(openai.AuthenticationError) as caught:
            client_of(gateway).models.list()
        assert caught.value.code == "invalid_api_key"
        assert [model.id for model in client_of(gateway, "secret").models.list()] in ([], ["a"])


def test_a_runner_that_dies_in_a_stream_is_an_error_of_the_stream(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "a", events=5, kill_at=2)
    with Gateway({"a": model}) as gateway:
        stream = iter(client_of(gateway).completions.create(stream=True, **PROMPT))
        assert [next(stream).choices[0].text for _ in range(2)] == ["x", "x"]
        with pytest.raises(openai.APIError, match="out of memory, it says") as caught:
            next(stream)
        assert caught.value.code == "runner_failed"


def test_what_can_never_fit_is_not_tried_again(tmp_path: Path) -> None:
    model = pretend_model(tmp_path / "a", weights=10**12)
    with Gateway({"a": model}, memory=10**10) as gateway:
        with pytest.raises(openai.APIStatusError) as caught:
            client_of(gateway, max_retries=2).completions.create(**PROMPT)
        assert (caught.value.status_code, caught.value.code) == (507, "not_enough_memory")
        assert gateway.log.count("/v1/completions") == 1


@pytest.mark.parametrize("n", [1, 3])
def test_who_leaves_a_stream_stops_its_work(tmp_path: Path, n: int) -> None:
    model = pretend_model(tmp_path / "a", events=1000, pause=0.05)
    with Gateway({"a": model}) as gateway:
        stream = client_of(gateway).completions.create(stream=True, n=n, **PROMPT)
        next(iter(stream))
        assert gateway.models()["a"]["active"] == 1
        stream.close()
        gateway.wait_until(lambda: gateway.models()["a"]["active"] == 0)


@pytest.mark.parametrize(
    ("native", "message", "param"),
    [
        ("options.seed: 5 is out of range", "seed: 5 is out of range", "seed"),
        ("content[1]: it has no tokens", "input[1]: it has no tokens", "input"),
        ("width, height: 9 x 9 is too large", "width, height: 9 x 9 is too large", "size"),
        ("images[0]: the picture is cut off", "image[0]: the picture is cut off", "image"),
        ("messages[0].content is missing", "messages[0].content is missing", "messages[0].content"),
        ("logit_bias[...]: a number is needed", "logit_bias[...]: a number is needed", "logit_bias"),
        ("the body is not JSON", "the body is not JSON", None),
    ],
)
def test_fields_are_called_as_the_client_calls_them(native: str, message: str, param: str | None) -> None:
    error = openai_error(BadRequest(native)).error
    assert (error.message, error.param) == (message, param)


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        *((kind("what and why"), kind.status) for kind in (UnknownPath, TooLarge, HubUnreachable, Busy, NotEnoughMemory, RunnerFailed)),
        (WrongMethod("GET it is", "GET"), 405),
        (RuntimeError("a fault of ours"), 500),
    ],
)  # fmt: skip
def test_whatever_goes_wrong_under_v1_has_the_same_shape(raised: Exception, status: int) -> None:
    async def fails(request: Request) -> None:
        raise raised

    around = [Middleware(RequestContextMiddleware, metrics=GatewayMetrics()), Middleware(OpenAIErrors)]
    app = Starlette(routes=[Route("/v1/models", fails), Route("/models", fails)], middleware=around)
    with TestClient(app, raise_server_exceptions=False) as client:
        answer = client.get("/v1/models")
        assert answer.status_code == status
        assert answer.json()["error"].keys() == {"message", "type", "param", "code"}
        assert "a fault of ours" not in answer.text
        assert isinstance(client.get("/models").json()["error"], str)


# -- calls that a model makes of its own accord

LOOK = {"name": "look", "arguments": {"at": "sea"}}
END = TextDone(0, "stop", 3, 1, 2, 1, 0)


def reader(**fields: Any) -> ChoiceReader:
    tools = [{"type": "function", "function": {"name": "look"}}]
    body = {"model": "toy", "messages": [{"role": "user", "content": "x"}], "tools": tools, **fields}
    return ChoiceReader(Chat.read(encode(body)))


def test_calls_have_ids_of_their_own_and_end_the_answer() -> None:
    choice = reader()
    said = choice.read(TextChunk("Well. ", 1))
    assert (said.content, said.calls, said.finish) == ("Well. ", [], None)
    first = choice.read(TextChunk("", 2, tool_calls=[LOOK, LOOK]))
    assert [delta.index for delta in first.call_deltas] == [0, 1]
    last = choice.read(END)
    calls = first.calls + last.calls
    assert [call.id for call in calls] == [delta.id for delta in first.call_deltas]
    assert calls[0].id != calls[1].id
    assert calls[0].function.name == "look"
    assert calls[0].function.arguments == json.dumps({"at": "sea"}, separators=(",", ":"))
    assert last.finish == "tool_calls"


def test_without_parallel_calls_the_first_is_the_only_one() -> None:
    choice = reader(parallel_tool_calls=False)
    (delta,) = choice.read(TextChunk("", 2, tool_calls=[LOOK, LOOK])).call_deltas
    (call,) = choice.read(replace(END, tool_calls=[LOOK])).calls
    assert call.id == delta.id


def test_a_drawing_says_nothing_that_was_not_asked_for() -> None:
    body = {"model": "klein", "prompt": "a boat", "size": "auto", "quality": "auto", "n": None, "user": "me"}
    assert encode(ImagesCall(body, "image_generation", []).engine_request()) == b'{"prompt":"a boat"}'


def test_another_api_under_v1_keeps_the_shape_of_its_own_errors() -> None:
    @operation("Continue a chat in another API's words")
    async def other(request: Request) -> None:
        raise BadRequest("model is missing")

    around = [Middleware(RequestContextMiddleware, metrics=GatewayMetrics()), Middleware(OpenAIErrors)]
    app = Starlette(routes=[Route("/v1/messages", other)], middleware=around)
    with TestClient(app, raise_server_exceptions=False) as client:
        assert client.get("/v1/messages").json() == {"error": "model is missing"}
        assert client.get("/v1/messages/4").status_code == 404
