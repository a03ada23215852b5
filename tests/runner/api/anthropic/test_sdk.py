"""Messages, their streams, counts and models by the real anthropic package, against a gateway over toys."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model
from tests.waiting import PATIENCE

anthropic = pytest.importorskip("anthropic", reason="the clients group is not installed")

ASK: Any = [{"role": "user", "content": "Why is the sea blue?"}]
PLACE: Any = {"type": "string", "enum": ["sea", "land"]}
LOOK: Any = {
    "name": "look",
    "description": "Looks somewhere",
    "input_schema": {"type": "object", "properties": {"at": PLACE}, "required": ["at"]},
}
SEARCH: Any = {"type": "web_search_20250305", "name": "web_search"}
THINK: Any = {"type": "adaptive"}


def client_of(gateway: Gateway, key: str = "none", **options: Any) -> Any:
    return anthropic.Anthropic(base_url=gateway.url, api_key=key, max_retries=0, timeout=PATIENCE, **options)


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return client_of(gateway)


def create(client: Any, **fields: Any) -> Any:
    request = {"model": "toy", "messages": ASK, "max_tokens": 12, "extra_body": {"seed": 3}, **fields}
    return client.messages.create(**request)


def test_a_message_and_its_stream_say_the_same(client: Any) -> None:
    whole = checked(create(client))
    assert (whole.type, whole.role, whole.model, whole.stop_reason) == (
        "message",
        "assistant",
        "toy",
        "max_tokens",
    )
    assert whole.id.startswith("msg_")
    assert whole.usage.output_tokens == 12
    events = [checked(event) for event in create(client, stream=True)]
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "message_start",
        "content_block_start",
        "content_block_delta",
        "content_block_stop",
        "message_delta",
        "message_stop",
    ]
    text = "".join(event.delta.text for event in events if event.type == "content_block_delta")
    assert text == whole.content[0].text
    usage = events[-2].usage
    read = whole.usage.input_tokens + whole.usage.cache_read_input_tokens
    assert usage.input_tokens + usage.cache_read_input_tokens == read
    assert (events[-2].delta.stop_reason, usage.output_tokens) == ("max_tokens", 12)
    counted = checked(client.messages.count_tokens(model="toy", messages=ASK))
    assert counted.input_tokens == read


def test_a_ping_follows_the_start(gateway: Gateway) -> None:
    body = {"model": "toy", "messages": ASK, "max_tokens": 2, "stream": True}
    lines = gateway.http.post("/v1/messages", json=body).text.split("\n\n")
    assert lines[0].startswith("event: message_start\ndata: {")
    assert lines[1] == 'event: ping\ndata: {"type":"ping"}'


def test_a_stop_sequence_ends_a_message_and_is_named(client: Any) -> None:
    text = create(client).content[0].text
    stop = text[5:8]
    message = checked(create(client, stop_sequences=["never", stop]))
    assert message.content[0].text == text[: text.index(stop)]
    assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", stop)


def test_thoughts_text_and_calls_are_blocks_one_after_another(calling: Gateway) -> None:
    client = client_of(calling)
    fields = {"model": "caller", "max_tokens": 50, "tools": [LOOK, SEARCH], "thinking": THINK}
    message = checked(create(client, **fields))
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use", "tool_use"]
    thought, text, look, wait = message.content
    assert (thought.thinking, text.text) == ("The sea, then.", "I look.")
    assert thought.signature
    assert (look.name, look.input, wait.name, wait.input) == ("look", {"at": "sea", "far": True}, "wait", {})
    assert look.id.startswith("toolu_")
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens_details.thinking_tokens == 2
    assert message.warnings == ["tools[1] was left out: tools of type web_search_20250305 cannot be run here"]
    del fields["model"], fields["max_tokens"]
    with client.messages.stream(model="caller", max_tokens=50, messages=ASK, **fields) as stream:
        deltas = {event.delta.type for event in stream if event.type == "content_block_delta"}
        final = stream.get_final_message()
    assert deltas == {"thinking_delta", "signature_delta", "text_delta", "input_json_delta"}
    assert [block.type for block in final.content] == ["thinking", "text", "tool_use", "tool_use"]
    assert final.content[2].input == look.input


def test_what_a_request_leaves_out_of_its_answer_is_not_in_it(calling: Gateway) -> None:
    only: Any = {"type": "auto", "disable_parallel_tool_use": True}
    hidden: Any = {"type": "adaptive", "display": "omitted"}
    message = create(
        client_of(calling), model="caller", max_tokens=50, tools=[LOOK], tool_choice=only, thinking=hidden
    )
    assert [block.type for block in message.content] == ["thinking", "text", "tool_use"]
    assert message.content[0].thinking == ""
    assert message.content[0].signature
    nothing = checked(create(client_of(calling), model="caller", max_tokens=0))
    assert (nothing.content, nothing.usage.output_tokens, nothing.stop_reason) == ([], 0, "max_tokens")


def test_a_turn_goes_on_with_the_results_of_its_tools(calling: Gateway) -> None:
    client = client_of(calling)
    first = create(client, model="caller", max_tokens=50, tools=[LOOK], thinking=THINK)
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": "blue"}]}
        for block in first.content
        if block.type == "tool_use"
    ]
    messages: Any = [
        *ASK,
        {"role": "assistant", "content": first.content},
        {"role": "user", "content": results},
    ]
    second = checked(create(client, model="caller", max_tokens=50, tools=[LOOK], messages=messages))
    read = [one.usage.input_tokens + one.usage.cache_read_input_tokens for one in (first, second)]
    assert read[1] > read[0]


@pytest.mark.parametrize("choice", [{"type": "any"}, {"type": "tool", "name": "look"}])
def test_a_call_that_must_be_made_obeys_its_schema(client: Any, choice: Any) -> None:
    message = checked(create(client, tools=[LOOK], tool_choice=choice, max_tokens=99))
    (block,) = message.content
    assert (message.stop_reason, block.name, block.input["at"] in PLACE["enum"]) == ("tool_use", "look", True)


def test_a_call_is_streamed_as_it_is_written_and_keeps_its_name_where_it_is_cut(calling: Gateway) -> None:
    fields: Any = {"model": "told", "tools": [LOOK], "max_tokens": 50}
    events = list(create(client_of(calling), stream=True, **fields))
    deltas = [event.delta for event in events if event.type == "content_block_delta"]
    written = [delta.partial_json for delta in deltas if delta.type == "input_json_delta"]
    assert len(written) > 1
    assert json.loads("".join(written)) == {"at": "sea"}
    message = checked(create(client_of(calling), **{**fields, "max_tokens": 4}))
    assert [block.type for block in message.content] == ["text", "tool_use"]
    assert (message.content[1].name, message.content[1].input, message.stop_reason) == (
        "look",
        {},
        "max_tokens",
    )
    assert message.warnings[0].startswith("the call of look was cut")


def test_tools_stand_beside_a_format_and_models_without_tools_take_them(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"at": PLACE},
        "required": ["at"],
        "additionalProperties": False,
    }
    format = {"format": {"type": "json_schema", "schema": schema}}
    message = checked(create(client, tools=[LOOK], max_tokens=99, output_config=format))
    for block in message.content:
        inside = block.input if block.type == "tool_use" else json.loads(block.text)
        assert inside["at"] in PLACE["enum"]
    plain = checked(create(client, model="plain", tools=[LOOK]))
    assert "described" in plain.warnings[0]


def test_an_answer_follows_the_schema_of_its_format(client: Any) -> None:
    schema = {
        "type": "object",
        "properties": {"at": PLACE},
        "required": ["at"],
        "additionalProperties": False,
    }
    message = create(
        client, max_tokens=60, output_config={"format": {"type": "json_schema", "schema": schema}}
    )
    assert json.loads(message.content[0].text)["at"] in PLACE["enum"]


def test_the_beta_takes_what_claude_code_sends(client: Any) -> None:
    thought: Any = [
        {"type": "thinking", "thinking": "Hm.", "signature": "x"},
        {"type": "text", "text": "Hi."},
    ]
    turns: Any = [*ASK, {"role": "assistant", "content": thought}] * 2
    message = checked(
        client.beta.messages.create(
            model="toy",
            max_tokens=4,
            system=[
                {"type": "text", "text": "x-anthropic-billing-header: cc_version=2.1; cc_entrypoint=cli;"},
                {"type": "text", "text": "You help.", "cache_control": {"type": "ephemeral"}},
            ],
            messages=[*turns, *ASK, {"role": "system", "content": "The date has changed."}],
            metadata={"user_id": "x"},
            thinking={"type": "adaptive"},
            context_management={"edits": [{"type": "clear_thinking_20251015"}]},
            output_config={"effort": "high"},
            betas=["context-management-2025-06-27"],
        )
    )
    (edit,) = message.context_management.applied_edits
    assert (edit.cleared_thinking_turns, edit.cleared_input_tokens > 0) == (1, True)


def test_models_are_listed_for_clients_that_say_which_api_they_speak(client: Any, gateway: Gateway) -> None:
    page = client.models.list(limit=1)
    assert (len(page.data), page.has_more) == (1, True)
    models = [checked(model) for model in client.models.list(limit=1)]
    assert {model.id for model in models} == {"toy", "plain"}, "klein draws"
    assert checked(client.models.retrieve("toy")).max_input_tokens == 4096
    assert [model.id for model in client.models.list(before_id=models[1].id)] == [models[0].id]
    with pytest.raises(anthropic.NotFoundError):
        client.models.retrieve("nobody/nothing")
    with pytest.raises(anthropic.BadRequestError, match="limit: '0' is not allowed"):
        client.models.list(limit=0)
    assert gateway.http.get("/v1/models").json()["object"] == "list", "OpenAI's"


@pytest.mark.parametrize(
    ("fields", "kind", "message"),
    [
        ({"max_tokens": -1}, "BadRequestError", "max_tokens: -1 is not allowed"),
        ({"model": "nobody"}, "NotFoundError", "no model 'nobody'"),
        ({"model": "klein"}, "BadRequestError", "klein draws pictures"),
        (
            {"messages": [{"role": "user", "content": "sea " * 9000}]},
            "BadRequestError",
            "prompt is too long: [0-9]+ tokens > 4096 maximum",
        ),
        ({"stop_sequences": [""]}, "BadRequestError", "^Error code: 400.*stop_sequences: "),
    ],
)
def test_a_refusal_is_the_error_of_its_status(client: Any, fields: Any, kind: str, message: str) -> None:
    with pytest.raises(getattr(anthropic, kind), match=message) as caught:
        create(client, **fields)
    assert caught.value.request_id == caught.value.body["request_id"]
    assert caught.value.body["type"] == "error"


def test_the_key_may_stand_in_either_header(tmp_path: Path) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a")}, keys=["secret"], key="secret") as gateway:
        with pytest.raises(anthropic.AuthenticationError) as caught:
            create(client_of(gateway), model="a")
        assert caught.value.type == "authentication_error"
        assert create(client_of(gateway, "secret"), model="a").content[0].text == "xxx"
        bearer = anthropic.Anthropic(base_url=gateway.url, auth_token="secret", max_retries=0)
        assert create(bearer, model="a").content[0].text == "xxx"


def test_a_runner_that_dies_in_a_stream_is_an_error_of_the_stream(tmp_path: Path) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a", events=5, kill_at=2)}) as gateway:
        with pytest.raises(anthropic.APIStatusError, match="out of memory, it says") as caught:
            list(create(client_of(gateway), model="a", stream=True))
        assert caught.value.type == "api_error"
