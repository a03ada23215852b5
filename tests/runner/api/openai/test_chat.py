"""Chat, completions, embeddings and models by the real openai package, against a gateway over toys."""

import asyncio
import json
from typing import Any

import pytest

from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

ASK: Any = [{"role": "user", "content": "Why is the sea blue?"}]
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks somewhere",
        "parameters": {
            "type": "object",
            "properties": {"at": {"$ref": "#/$defs/Place"}, "far": {"type": "boolean"}},
            "required": ["at", "far"],
            "additionalProperties": False,
            "$defs": {"Place": {"enum": ["sea", "land"]}},
        },
    },
}
WAIT: Any = {"type": "function", "function": {"name": "wait", "parameters": {"type": "object", "properties": {}, "additionalProperties": False}}}  # fmt: skip


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


@pytest.fixture
def other(gateway: Gateway) -> Any:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def chat(client: Any, **fields: Any) -> Any:
    return client.chat.completions.create(
        **{"model": "toy", "messages": ASK, "max_completion_tokens": 12, "seed": 3, **fields}
    )


# -- models


def test_models_are_listed_by_the_names_that_clients_use(client: Any) -> None:
    assert {model.id for model in client.models.list()} == {"toy", "plain", "klein"}
    answer = checked(client.models.retrieve("toy"))
    assert (answer.object, answer.owned_by) == ("model", "folder")
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("nobody/nothing")
    assert caught.value.code == "model_not_found"


# -- chat


def test_a_chat_answers_with_its_usage(client: Any) -> None:
    answer = checked(chat(client))
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert answer.usage.completion_tokens == 12
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 12
    assert chat(client).choices[0].message.content == choice.message.content, "the same seed, the same text"
    assert chat(client, seed=4).choices[0].message.content != choice.message.content


def test_a_stream_says_the_same_piece_by_piece(client: Any) -> None:
    whole = chat(client)
    chunks = [checked(chunk) for chunk in chat(client, stream=True, stream_options={"include_usage": True})]
    assert chunks[0].choices[0].delta.role == "assistant"
    said = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert said == whole.choices[0].message.content
    assert [c.choices[0].finish_reason for c in chunks[:-1]][-1] == "length"
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens == whole.usage.completion_tokens
    assert len({chunk.id for chunk in chunks}) == 1


def test_the_asynchronous_client_gets_the_same(client: Any, other: Any) -> None:
    async def both() -> tuple[Any, str]:
        whole = await chat(other)
        said = ""
        async for chunk in await chat(other, stream=True):
            said += chunk.choices[0].delta.content or ""
        return whole, said

    whole, said = asyncio.run(both())
    assert said == whole.choices[0].message.content == chat(client).choices[0].message.content


def test_a_text_ends_before_a_stop_string(client: Any) -> None:
    text = chat(client).choices[0].message.content
    stop = text[5:8]
    stopped = chat(client, stop=[stop])
    assert stopped.choices[0].message.content == text[: text.index(stop)]
    assert stopped.choices[0].finish_reason == "stop"


def test_several_choices_each_with_a_seed_of_its_own(client: Any) -> None:
    answer = chat(client, n=3)
    said = [choice.message.content for choice in answer.choices]
    assert len(set(said)) == 3
    assert said[1] == chat(client, seed=4).choices[0].message.content
    assert answer.usage.completion_tokens == 36
    streamed = ["", "", ""]
    finished = set()
    for chunk in chat(client, n=3, stream=True):
        streamed[chunk.choices[0].index] += chunk.choices[0].delta.content or ""
        finished |= {chunk.choices[0].index} if chunk.choices[0].finish_reason else set()
    assert streamed == said
    assert finished == {0, 1, 2}


def test_log_probabilities_follow_the_text(client: Any) -> None:
    (choice,) = chat(client, logprobs=True, top_logprobs=2).choices
    actual = choice.logprobs.content
    assert len(actual) == 12
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in actual)
    streamed = [
        token
        for chunk in chat(client, logprobs=True, top_logprobs=2, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert streamed == actual


def test_biases_penalties_and_temperature_are_heard(client: Any, gateway: Gateway) -> None:
    (token,) = gateway.http.post("/tokenize", json={"model": "toy", "content": "e"}).json()["tokens"]
    forced = chat(client, logit_bias={str(token): 100}, temperature=0, max_completion_tokens=4)
    assert forced.choices[0].message.content == "eeee"
    plain = chat(client, temperature=0, max_completion_tokens=40)
    penalized = chat(client, temperature=0, max_completion_tokens=40, frequency_penalty=2, presence_penalty=2)
    assert plain.choices[0].message.content != penalized.choices[0].message.content


def test_developers_systems_and_text_parts_are_read(client: Any) -> None:
    def prompt(*messages: Any) -> int:
        return int(chat(client, messages=list(messages), max_completion_tokens=1).usage.prompt_tokens)

    user = {"role": "user", "content": "Why is the sea blue?"}
    parts = {"role": "user", "content": [{"type": "text", "text": "Why is "}, {"type": "text", "text": "the sea blue?"}]}  # fmt: skip
    assert prompt(user) == prompt(parts)
    system = {"role": "system", "content": "Be brief."}
    assert prompt(system, user) == prompt({**system, "role": "developer"}, user) > prompt(user)


def test_an_answer_follows_its_schema(client: Any) -> None:
    schema = {"type": "object", "properties": {"boats": {"enum": [1, 17]}, "open": {"type": "boolean"}},
              "required": ["boats", "open"], "additionalProperties": False}  # fmt: skip
    answer = chat(
        client,
        response_format={
            "type": "json_schema",
            "json_schema": {"name": "harbour", "schema": schema, "strict": True},
        },
        max_completion_tokens=200,
    )
    actual = json.loads(answer.choices[0].message.content)
    assert actual["boats"] in (1, 17)
    assert isinstance(actual["open"], bool)
    assert answer.choices[0].finish_reason == "stop"
    said = (
        chat(client, response_format={"type": "json_object"}, max_completion_tokens=60)
        .choices[0]
        .message.content
    )
    assert said.lstrip().startswith("{")


# -- tools


def test_a_tool_that_must_be_called_is_called_by_its_schema(client: Any) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "look"}}):
        answer = checked(chat(client, tools=[LOOK, WAIT], tool_choice=choice, max_completion_tokens=200))
        message = answer.choices[0].message
        (call,) = message.tool_calls
        assert message.content is None
        assert answer.choices[0].finish_reason == "tool_calls"
        arguments = json.loads(call.function.arguments)
        if choice != "required":
            assert call.function.name == "look"
        if call.function.name == "look":
            assert arguments["at"] in ("sea", "land")
            assert isinstance(arguments["far"], bool)


def test_a_call_and_its_answer_go_back_to_the_model(client: Any) -> None:
    call = {
        "id": "call_1",
        "type": "function",
        "function": {"name": "look", "arguments": '{"at": "sea", "far": true}'},
    }
    messages = [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "call_1", "content": "blue"},
    ]
    answer = chat(client, messages=messages, tools=[LOOK], max_completion_tokens=3)
    assert (
        answer.usage.prompt_tokens > chat(client, tools=[LOOK], max_completion_tokens=3).usage.prompt_tokens
    )


def test_a_thought_stands_apart(client: Any, gateway: Gateway) -> None:
    """A bias makes the toy open a thought again and again."""
    (mark,) = gateway.http.post("/tokenize", json={"model": "toy", "content": "<think>"}).json()["tokens"]
    fields: Any = {"logit_bias": {str(mark): 100}, "max_completion_tokens": 3}
    answer = chat(client, **fields)
    assert answer.choices[0].message.content == ""
    assert answer.choices[0].message.reasoning_content == "<think><think>"
    assert answer.usage.completion_tokens_details.reasoning_tokens == 2
    deltas = [chunk.choices[0].delta for chunk in chat(client, stream=True, **fields)]
    assert "".join(getattr(delta, "reasoning_content", None) or "" for delta in deltas) == "<think><think>"


# -- what cannot be done


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]}, "messages[0].content[0].image_url"),
        ({"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}]}]}, "messages[0].content[0].type"),
        ({"modalities": ["text", "audio"], "audio": {"voice": "alloy", "format": "wav"}}, "audio"),
        ({"functions": [{"name": "old"}]}, "functions"),
        ({"temperature": 3}, "temperature"),
        ({"n": 0}, "n"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, "messages[0].role"),
        ({"logit_bias": {"999999": 1}}, "logit_bias"),
        ({"stop": [""]}, "stop"),
        ({"extra_body": {"speculate": "mtp"}}, "speculate"),
        ({"extra_body": {"speculate": 1.5}}, "speculate"),
        ({"prediction": {"type": "text", "content": "x"}}, "prediction.type"),
        ({"prediction": {"type": "content", "content": [{"type": "image_url", "text": "x"}]}}, "prediction.content[0].image_url"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nonsense"}}}}, "response_format"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_by_name(client: Any, fields: Any, param: str) -> None:
    for stream in (False, True):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, stream=stream, **fields)
        assert caught.value.type == "invalid_request_error"
        assert caught.value.param == param


def test_a_prompt_that_is_too_long_has_the_code_that_clients_look_for(client: Any) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        chat(client, messages=[{"role": "user", "content": "sea " * 20000}])
    assert caught.value.code == "context_length_exceeded"
    for words in (
        "maximum context length is",
        "exceeds the available context size",
        "longer than the model's context length",
    ):
        assert words in str(caught.value)


def test_models_of_another_kind_and_unknown_ones_are_told_apart(client: Any) -> None:
    with pytest.raises(openai.BadRequestError, match="draws pictures") as caught:
        chat(client, model="klein")
    assert caught.value.param == "model"
    with pytest.raises(openai.NotFoundError) as missing:
        chat(client, model="nobody")
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")


def test_unknown_paths_name_the_nearest(client: Any, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError, match="/v1/chat/completions"):
        client.post("/chat/completion", cast_to=object, body={})
    answer = gateway.http.get("/v1/chat/completions")
    assert answer.status_code == 405
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_bodies_that_are_no_requests_are_400s(gateway: Gateway) -> None:
    for path in ("/v1/chat/completions", "/v1/completions", "/v1/embeddings"):
        for body in (b"", b"nonsense", b"[]", b"{}", b'{"model": 3}', b'{"model": "toy", "messages": 3, "prompt": {}, "input": {}}'):  # fmt: skip
            answer = gateway.http.post(path, content=body)
            assert answer.status_code == 400, (path, body, answer.text)
            assert answer.json()["error"]["type"] == "invalid_request_error"


# -- completions


def complete(client: Any, **fields: Any) -> Any:
    return client.completions.create(
        **{"model": "toy", "prompt": "The sea", "seed": 3, "max_tokens": 8, **fields}
    )


def test_a_prompt_is_continued(client: Any) -> None:
    answer = checked(complete(client))
    assert answer.choices[0].text
    assert answer.usage.completion_tokens == 8
    assert complete(client, echo=True).choices[0].text == "The sea" + answer.choices[0].text
    streamed = "".join(chunk.choices[0].text for chunk in complete(client, stream=True))
    assert streamed == answer.choices[0].text
    assert client.completions.create(model="toy", prompt="The sea").usage.completion_tokens == 16


def test_prompts_side_by_side_and_as_tokens(client: Any, gateway: Gateway) -> None:
    one = complete(client).choices[0].text
    answer = complete(client, prompt=["The land", "The sea"], n=2)
    assert [choice.index for choice in answer.choices] == [0, 1, 2, 3]
    assert answer.choices[2].text == one
    tokens = gateway.http.post("/tokenize", json={"model": "toy", "content": "The sea"}).json()["tokens"]
    assert complete(client, prompt=tokens).choices[0].text == one


@pytest.mark.parametrize(
    ("prompts", "param", "code"),
    [
        (["The sea", ""], "prompt[1]", None),
        ([[5], []], "prompt[1]", None),
        ("", "prompt", None),
        (["The sea", "sea " * 3000], "prompt[1]", "context_length_exceeded"),
    ],
)
def test_one_prompt_that_cannot_be_continued_is_refused_before_a_stream_begins(
    client: Any, prompts: Any, param: str, code: str | None
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, prompt=prompts, stream=True)
    assert (caught.value.param, caught.value.code) == (param, code)


def test_completions_have_log_probabilities_of_the_old_shape(client: Any) -> None:
    stream = complete(client, logprobs=2).choices[0].logprobs
    assert len(stream.tokens) == len(stream.token_logprobs) == len(stream.text_offset) == 8
    assert all(len(top) <= 2 for top in stream.top_logprobs)
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, suffix="end")
    assert caught.value.param == "suffix"


# -- embeddings


def test_embeddings_are_the_same_in_both_encodings(client: Any) -> None:
    texts = ["The sea", "The land"]
    packed = checked(client.embeddings.create(model="toy", input=texts))
    plain = client.embeddings.create(model="toy", input=texts, encoding_format="float")
    assert len(packed.data) == 2
    for one, two in zip(packed.data, plain.data, strict=True):
        assert one.embedding == pytest.approx(two.embedding, abs=1e-6)
        assert sum(value * value for value in two.embedding) == pytest.approx(1, abs=1e-4)
    assert packed.usage.prompt_tokens > 0
    short = client.embeddings.create(model="toy", input="The sea", dimensions=8).data[0].embedding
    assert len(short) == 8
    assert sum(value * value for value in short) == pytest.approx(1, abs=1e-4)
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model="toy", input=[])
    assert caught.value.param == "input"
