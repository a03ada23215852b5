"""Hostile bodies on every endpoint of a real runner: an answer every time, and the next request works."""

import json
import socket
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from hypothesis import strategies as st

from tests.runner.fuzzing import many
from tests.runner.live import Live
from tests.toys import toy_text

pytestmark = pytest.mark.filterwarnings("ignore:Generating overly large repr")
EXAMPLES = [40, pytest.param(1500, marks=pytest.mark.slow)]
GOOD = {"prompt": "The harbour wakes", "options": {"num_predict": 3}}


@pytest.fixture(scope="module")
def live() -> Iterator[Live]:
    with Live(toy_text("qwen3"), "--context", "96", "--cache-bytes", "1MB") as runner:
        yield runner


@pytest.fixture(scope="module")
def before(live: Live) -> str:
    """What a good request answers while nothing has gone wrong yet."""
    return without_times(live)


@pytest.fixture(autouse=True)
def still_well(live: Live, before: str) -> Iterator[None]:
    yield
    assert live.alive, live.log[-2000:]
    assert without_times(live) == before
    live.wait_until_idle()


def without_times(live: Live) -> str:
    response = live.http.post("/completion", json=GOOD)
    assert response.status_code == 200, response.text
    return "".join(json.dumps(json.loads(line).get("token")) for line in response.content.splitlines())


def check_answer(response: httpx2.Response) -> None:
    """Either a whole answer, or an error of the client's that says something."""
    if response.status_code == 200:
        if "ndjson" in response.headers["content-type"]:
            last = json.loads(response.content.splitlines()[-1])
            assert last["done"] is True
            assert "error" not in last, last
        else:
            response.json()
        return
    assert response.status_code in (400, 413), (response.status_code, response.text[:500])
    message = response.json()["error"]
    assert isinstance(message, str)
    assert 5 < len(message) < 2000


# What no field expects, in about equal parts.
hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([0, -1, 2**31, 2**63, 2**64, 2**70, -(2**70), 10**400]),
    st.floats(),
    st.sampled_from([1e30, -1e-30, 1e308, float("nan"), float("inf"), float("-inf")]),
    # Lone surrogates too: JSON can carry them, UTF-8 cannot.
    st.text(st.characters(), max_size=20),
    st.sampled_from(["", "\x00", "\ud800", "<|im_end|>", "a" * 5000, "🫖" * 50, "{{ 7 * 7 }}"]),
    st.lists(st.integers() | st.text(max_size=3) | st.none(), max_size=4),
    st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=3), max_size=3),
)
json_values = st.recursive(
    hostile,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
OPTIONS = [
    "num_predict",
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repeat_last_n",
    "repeat_penalty",
    "presence_penalty",
    "frequency_penalty",
    "seed",
    "stop",
    "logit_bias",
    "priority",
]
FIELDS = ["prompt", "messages", "tools", "options", "format", "logprobs", "top_logprobs", "stream", "think"]


@st.composite
def bent_completions(draw: st.DrawFn) -> dict[str, Any]:
    """A good request with a few fields replaced by something else."""
    options = {"num_predict": 3} | {
        draw(st.sampled_from(OPTIONS)): draw(hostile) for _ in range(draw(st.integers(0, 3)))
    }
    body: dict[str, Any] = {"prompt": "The harbour", "options": options}
    for _ in range(draw(st.integers(0, 2))):
        body[draw(st.sampled_from(FIELDS))] = draw(json_values)
    return body


@st.composite
def bent_chats(draw: st.DrawFn) -> dict[str, Any]:
    message = st.fixed_dictionaries(
        {},
        optional={
            "role": st.sampled_from(["user", "assistant", "system", "tool"]) | hostile,
            "content": st.text(max_size=10) | json_values,
            "tool_calls": json_values,
            "name": hostile,
        },
    )
    body = {"messages": draw(st.lists(message | hostile, max_size=4)), "options": {"num_predict": 2}}
    return body | draw(st.fixed_dictionaries({}, optional={"tools": json_values, "think": hostile}))


schemas = st.recursive(
    st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["string", "integer", "object", "array", "null", "nonsense"]) | hostile,
            "enum": st.lists(hostile, max_size=3) | hostile,
            "pattern": st.sampled_from(["[a-z]+", "(", "(a+)+$", "\\d{1,99999}"]) | hostile,
            "minLength": hostile,
            "maximum": hostile,
            "$ref": st.sampled_from(["#", "#/$defs/x", "http://example.com/x.json", "file:///etc/passwd"]),
        },
    ),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "type": st.sampled_from(["object", "array"]),
            "properties": st.dictionaries(st.text(max_size=4), inner, max_size=3) | hostile,
            "items": inner | hostile,
            "anyOf": st.lists(inner, max_size=3),
            "required": st.lists(st.text(max_size=4), max_size=2) | hostile,
        },
    ),
    max_leaves=5,
)


def post(live: Live, path: str, body: Any) -> None:
    """As JSON that keeps NaN, huge numbers and lone surrogates."""
    content = json.dumps(body).encode()
    check_answer(live.http.post(path, content=content, headers={"content-type": "application/json"}))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_bent_completions_are_answered(live: Live, examples: int) -> None:
    many(examples, bent_completions())(lambda body: post(live, "/completion", body))


@pytest.mark.parametrize("examples", EXAMPLES)
def test_bent_chats_are_answered(live: Live, examples: int) -> None:
    many(examples, bent_chats())(lambda body: post(live, "/v1/completions", body))


# Each schema is tried in a process of its own, which costs a tenth of a second of processor.
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("examples", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_odd_schemas_are_answered(live: Live, examples: int) -> None:
    def ask(schema: dict[str, Any]) -> None:
        post(live, "/completion", {**GOOD, "format": schema})

    many(examples, schemas)(ask)


# An example goes to every path: making it costs more than sending it.
PATHS = ("/completion", "/tokenize", "/v1/tokenize", "/detokenize", "/cancel")


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_json_is_answered(live: Live, examples: int) -> None:
    names = st.sampled_from(["prompt", "content", "tokens", "id", "messages"]) | st.text(max_size=5)
    bodies = json_values | st.dictionaries(names, json_values, max_size=3)

    def ask(body: Any) -> None:
        for path in PATHS:
            post(live, path, body)

    many(examples, bodies)(ask)


# Few get past the parser, which is the same on every path.
@pytest.mark.parametrize("examples", [40, pytest.param(500, marks=pytest.mark.slow)])
def test_any_bytes_are_answered(live: Live, examples: int) -> None:
    def ask(body: bytes) -> None:
        for path in PATHS:
            check_answer(live.http.post(path, content=body))

    many(examples, st.binary(max_size=60))(ask)


@pytest.mark.parametrize("examples", EXAMPLES)
def test_any_text_and_any_ids_go_there_and_back(live: Live, examples: int) -> None:
    def there_and_back(content: str) -> None:
        ids = live.http.post("/tokenize", json={"content": content}).json()["tokens"]
        assert live.http.post("/detokenize", json={"tokens": ids}).json()["content"] == content

    many(examples, st.text(st.characters(exclude_categories=["Cs"]), max_size=40))(there_and_back)
    ids = st.lists(st.integers(0, 700) | st.integers(), max_size=20)
    many(examples, ids)(lambda tokens: post(live, "/detokenize", {"tokens": tokens}))


@pytest.mark.parametrize(
    "opening", [b"[", b'{"a":', b'{"prompt":"x","format":{"items":', b'{"messages":[[[[']
)
@pytest.mark.parametrize("depth", [100, 5_000, 500_000])
def test_deep_nesting_is_refused(live: Live, opening: bytes, depth: int) -> None:
    response = live.http.post("/completion", content=opening * depth)
    assert response.status_code == 400
    closed = b"[" * depth + b"]" * depth
    response = live.http.post(
        "/completion", content=b'{"prompt":"x","options":{"num_predict":1},"tools":%s}' % closed
    )
    assert response.status_code == 400


def nested(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "array", "items": schema}
    return schema


@pytest.mark.parametrize("depth", [10, 200])
def test_a_deep_schema_is_answered(live: Live, depth: int) -> None:
    post(live, "/completion", {**GOOD, "format": nested(depth)})


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", ["/completion", "/v1/completions", "/tokenize", "/detokenize", "/embedding", "/cancel"]
)
def test_other_methods_are_405(live: Live, path: str, method: str) -> None:
    response = live.http.request(method, path, content=b"{}")
    assert response.status_code == 405
    assert response.json()["error"]


@pytest.mark.parametrize("path", ["/", "/../etc/passwd", "/%2e%2e/x", "/v1", "/" + "a" * 5000])
def test_unknown_paths_are_404_in_json(live: Live, path: str) -> None:
    response = live.http.post(path, json=GOOD, follow_redirects=False)
    assert response.status_code == 404
    assert response.json()["error"]


RAW = {
    "not HTTP at all": b"hello\r\n\r\n",
    "TLS": bytes.fromhex("16030100a5010000a10303") + b"\x00" * 40,
    "no length": b"POST /completion HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "half a body": b'POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n{"prompt": "x',
    "a negative length": b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: -5\r\n\r\n{}",
    "an absurd length": b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999999999999999999\r\n\r\n{}",
    "bad chunks": b"POST /completion HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    "two lengths": b"POST /completion HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}x",
    "a broken header": b"POST /completion HTTP/1.1\r\nHost: localhost\r\n\x00\xff: y\r\nContent-Length: 2\r\n\r\n{}",
    "a huge header": b"POST /completion HTTP/1.1\r\nHost: localhost\r\nA: " + b"a" * 200_000 + b"\r\n\r\n{}",
}


@pytest.mark.parametrize("raw", RAW.values(), ids=RAW.keys())
def test_broken_http_ends_its_own_connection_alone(live: Live, raw: bytes) -> None:
    with socket.create_connection(("127.0.0.1", live.port), timeout=5) as connection:
        connection.sendall(raw)
        connection.shutdown(socket.SHUT_WR)
        try:
            answer = connection.recv(4096)
        except ConnectionResetError:
            answer = b""
        assert not answer or answer.startswith(b"HTTP/1.1 4"), answer


@pytest.mark.slow
def test_two_hundred_megabytes_are_413(live: Live) -> None:
    def pieces() -> Iterator[bytes]:
        yield b'{"prompt": "'
        for _ in range(200):
            yield b"a" * 1024**2
        yield b'"}'

    memory = live.memory()
    size = {"content-length": str(200 * 1024**2 + 14)}
    for headers in (size, {}):
        response = live.http.post("/completion", content=pieces(), headers=headers)
        assert response.status_code == 413
        assert "bytes" in response.json()["error"]
    assert live.memory() - memory < 150 * 1024**2
