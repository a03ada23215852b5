"""Stored responses and conversations by the real openai package, against a gateway over toys."""

import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runner.api.openai.test_chat import LOOK
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model, tell
from tests.waiting import PATIENCE, wait_until

openai = pytest.importorskip("openai", reason="the clients group is not installed")

FLAT: Any = {"type": "function", "strict": True, **LOOK["function"]}


def connect(gateway: Gateway, key: str = "none") -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0, timeout=PATIENCE)


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return connect(gateway)


@pytest.fixture
def state(tmp_path: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(tmp_path / "state")}


@pytest.fixture
def pretending(tmp_path: Path, state: dict[str, str]) -> Iterator[Gateway]:
    """`a` says three words; `slow` says one, and the others once it is told "answer"."""
    say = ["One ", "two ", "three."]
    folders = {
        "a": pretend_model(tmp_path / "a", say=say),
        "slow": pretend_model(tmp_path / "slow", say=say, waits=True),
    }
    with Gateway(folders, environment=state) as gateway:
        yield gateway


def respond(client: Any, **fields: Any) -> Any:
    extra = {"seed": 3, **fields.pop("extra_body", {})}
    request = {"model": "toy", "input": "Why is the sea blue?", "max_output_tokens": 8, **fields}
    return client.responses.create(**request, extra_body=extra)


def kinds(items: Any) -> list[tuple[str, str]]:
    return [(item.type, getattr(item, "role", "")) for item in items]


def test_a_stored_response_is_read_listed_and_deleted(client: Any) -> None:
    answer = respond(client, metadata={"of": "the sea"}, instructions="Be brief.")
    assert answer.store
    again = checked(client.responses.retrieve(answer.id))
    assert again.to_dict() == answer.to_dict()
    listed = client.responses.input_items.list(answer.id)
    (item,) = listed.data
    assert (item.role, item.content[0].type, item.content[0].text) == (
        "user",
        "input_text",
        "Why is the sea blue?",
    )
    client.responses.delete(answer.id)
    for call in (client.responses.retrieve, client.responses.delete, client.responses.input_items.list):
        with pytest.raises(openai.NotFoundError, match=answer.id):
            call(answer.id)


def test_a_second_turn_reads_what_the_first_one_read_and_said(client: Any) -> None:
    first = respond(client)
    second = respond(client, input="And the sky?", previous_response_id=first.id)
    said: Any = [
        {"role": "user", "content": "Why is the sea blue?"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "And the sky?"},
    ]
    whole = respond(client, input=said)
    assert second.previous_response_id == first.id
    assert second.output_text == whole.output_text
    assert second.usage.input_tokens == whole.usage.input_tokens
    third = respond(client, input="And I?", previous_response_id=second.id, stream=True)
    *_, last = third
    assert last.response.usage.input_tokens > second.usage.input_tokens
    items = client.responses.input_items.list(last.response.id, order="asc")
    assert kinds(items.data) == [
        ("message", role) for role in ("user", "assistant", "user", "assistant", "user")
    ]
    page = client.responses.input_items.list(last.response.id, limit=2, after=items.data[4].id)
    assert [item.id for item in page.data] == [items.data[3].id, items.data[2].id]
    assert page.has_more


def test_a_deleted_response_stays_part_of_those_that_continue_it(client: Any) -> None:
    first = respond(client)
    second = respond(client, input="And the sky?", previous_response_id=first.id)
    client.responses.delete(first.id)
    with pytest.raises(openai.BadRequestError) as caught:
        respond(client, previous_response_id=first.id)
    assert (caught.value.param, caught.value.code) == ("previous_response_id", "previous_response_not_found")
    third = respond(client, input="And I?", previous_response_id=second.id)
    assert third.usage.input_tokens > second.usage.input_tokens
    for one in (second, third):
        client.responses.delete(one.id)


def test_items_are_referred_to_as_clients_do_that_send_every_turn(client: Any) -> None:
    first = respond(client, tools=[FLAT], tool_choice="required", max_output_tokens=300)
    (call,) = first.output
    turn: Any = [
        {"role": "user", "content": [{"type": "input_text", "text": "Why is the sea blue?"}]},
        {"type": "item_reference", "id": call.id},
        {"type": "function_call_output", "call_id": call.call_id, "output": "blue"},
    ]
    second = respond(client, input=turn, tools=[FLAT])
    spelled = [turn[0], call.to_dict(), turn[2]]
    assert second.output_text == respond(client, input=spelled, tools=[FLAT]).output_text
    # A reference without its type, to an item that was itself referred to in the turn before.
    third = respond(
        client,
        input=[*turn[:1], {"id": call.id}, turn[2], {"id": second.output[0].id}, turn[0]],
        tools=[FLAT],
    )
    assert third.usage.input_tokens > second.usage.input_tokens
    items = client.responses.input_items.list(third.id, order="asc").data
    assert [item.type for item in items] == [
        "message",
        "function_call",
        "function_call_output",
        "message",
        "message",
    ]


def test_what_is_not_stored_is_not_found(client: Any) -> None:
    answer = respond(client, store=False)
    assert not answer.store
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(answer.id)
    with pytest.raises(openai.BadRequestError) as caught:
        respond(client, input=[{"type": "item_reference", "id": answer.output[0].id}])
    assert caught.value.param == "input[0].id"


def test_a_conversation_grows_with_its_responses(client: Any) -> None:
    conversation = checked(
        client.conversations.create(items=[{"role": "user", "content": "I am Ann."}], metadata={"a": "b"})
    )
    assert conversation.metadata == {"a": "b"}
    first = checked(respond(client, conversation=conversation.id))
    assert first.conversation.id == conversation.id
    second = respond(client, input="Who am I?", conversation={"id": conversation.id}, stream=True)
    *_, last = second
    assert last.response.usage.input_tokens > first.usage.input_tokens
    items = client.conversations.items.list(conversation.id, order="asc").data
    assert [item.role for item in items] == ["user", "user", "assistant", "user", "assistant"]
    assert client.conversations.items.retrieve(items[1].id, conversation_id=conversation.id) == items[1]
    client.conversations.items.delete(items[0].id, conversation_id=conversation.id)
    added = client.conversations.items.create(
        conversation.id, items=[{"type": "message", "role": "assistant", "content": "Ann."}]
    )
    assert added.data[0].content[0].text == "Ann."
    newest = client.conversations.items.list(conversation.id, limit=1)
    assert newest.data == added.data
    assert newest.has_more
    assert client.conversations.update(conversation.id, metadata={"c": "d"}).metadata == {"c": "d"}
    assert client.conversations.retrieve(conversation.id).metadata == {"c": "d"}
    assert client.conversations.delete(conversation.id).deleted
    with pytest.raises(openai.NotFoundError):
        client.conversations.items.list(conversation.id)
    assert client.responses.retrieve(first.id).output_text == first.output_text


def test_a_count_is_what_the_response_reads(client: Any) -> None:
    first = respond(client)
    fields: Any = {"model": "toy", "input": "And the sky?", "previous_response_id": first.id, "tools": [FLAT]}
    count = client.responses.input_tokens.count(**fields)
    assert count.object == "response.input_tokens"
    assert count.input_tokens == respond(client, **fields).usage.input_tokens


def test_a_compacted_conversation_is_continued(client: Any) -> None:
    first = respond(client)
    compacted = client.responses.compact(model="toy", input="And the sky?", previous_response_id=first.id)
    assert kinds(compacted.output) == [("message", "user"), ("message", "user"), ("compaction", "")]
    items: Any = [item.to_dict() for item in compacted.output]
    answer = respond(client, input=[*items, {"role": "user", "content": "Go on."}])
    assert answer.usage.input_tokens > compacted.usage.output_tokens
    assert not answer.warnings
    foreign = {"type": "compaction", "encrypted_content": "gAAAA"}
    assert "another server" in respond(client, input=[foreign, *items[:1]]).warnings[0]


def test_a_response_in_the_background_is_polled(client: Any) -> None:
    queued = checked(respond(client, background=True))
    assert (queued.status, queued.background) == ("queued", True)
    last = wait_until(lambda: done(client.responses.retrieve(queued.id)))
    assert (last.status, last.output_text) == ("incomplete", respond(client).output_text)
    *_, event = client.responses.retrieve(queued.id, stream=True, starting_after=5)
    assert (event.type, event.sequence_number, event.response.id) == ("response.incomplete", 6, queued.id)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(respond(client).id)


def done(response: Any) -> Any:
    return response if response.status not in ("queued", "in_progress") else None


def test_a_response_in_the_background_goes_on_without_its_client(pretending: Gateway, tmp_path: Path) -> None:
    client = connect(pretending)
    id, last = begin(client, background=True)
    assert client.responses.retrieve(id).status == "in_progress"
    following = client.responses.retrieve(id, stream=True, starting_after=last)
    tell(tmp_path / "slow", "answer")
    events = list(following)
    assert events[0].sequence_number == last + 1
    assert events[-1].response.output_text == "One two three."
    assert client.responses.retrieve(id).output_text == "One two three."


def begin(client: Any, **fields: Any) -> tuple[str, int]:
    """Begin a response of the slow model and leave; its id, and the number of the last event that was read."""
    with respond(client, model="slow", stream=True, **fields) as stream:
        for event in stream:
            if event.type == "response.created":
                id = event.response.id
            if event.type == "response.output_text.delta":
                return id, event.sequence_number
    raise AssertionError("it said nothing")


def test_a_response_in_the_background_is_cancelled_as_it_is(pretending: Gateway) -> None:
    client = connect(pretending)
    id, _ = begin(client, background=True)
    cancelled = checked(client.responses.cancel(id))
    assert (cancelled.status, cancelled.output_text) == ("cancelled", "One ")
    assert client.responses.cancel(id) == cancelled == client.responses.retrieve(id)
    pretending.wait_until(lambda: not pretending.models()["slow"]["active"])
    id, _ = begin(client, background=True)
    client.responses.delete(id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(id)


def test_a_client_that_leaves_its_stream_cancels_the_response(pretending: Gateway) -> None:
    client = connect(pretending)
    id, _ = begin(client)
    pretending.wait_until(lambda: client.responses.retrieve(id).status == "cancelled")
    assert client.responses.retrieve(id).output[0].status == "incomplete"


def test_a_killed_gateway_loses_nothing_that_was_told(tmp_path: Path, state: dict[str, str]) -> None:
    say = ["One ", "two ", "three."]
    folders = {
        "a": pretend_model(tmp_path / "a", say=say),
        "slow": pretend_model(tmp_path / "slow", say=say, waits=True),
    }
    with Gateway(folders, environment=state) as gateway:
        client = connect(gateway)
        told = [respond(client, model="a") for _ in range(3)]
        *_, streamed = respond(client, model="a", stream=True, previous_response_id=told[0].id)
        (queued, _), (begun, _) = begin(client, background=True), begin_and_stay(client)
        gateway.stop(signal.SIGKILL)
    with Gateway(folders, environment=state) as gateway:
        client = connect(gateway)
        for one in [*told, streamed.response]:
            assert client.responses.retrieve(one.id).to_dict() == one.to_dict()
        respond(client, model="a", previous_response_id=streamed.response.id)
        for id in (queued, begun):
            lost = checked(client.responses.retrieve(id))
            assert (lost.status, lost.error.code) == ("failed", "server_error")
            assert client.responses.input_items.list(id).data[0].content[0].text == "Why is the sea blue?"


def begin_and_stay(client: Any) -> tuple[str, Any]:
    stream = respond(client, model="slow", stream=True)
    return next(iter(stream)).response.id, stream


def test_several_gateways_share_what_is_stored(tmp_path: Path, state: dict[str, str]) -> None:
    folders = {"a": pretend_model(tmp_path / "a"), "slow": pretend_model(tmp_path / "slow", waits=True)}
    with Gateway(folders, environment=state) as one, Gateway(folders, environment=state) as other:
        first, second = connect(one), connect(other)
        answer = respond(first, model="a")
        assert second.responses.retrieve(answer.id).to_dict() == answer.to_dict()
        id, _ = begin(first, background=True)
        assert second.responses.retrieve(id).status == "in_progress"
        assert second.responses.cancel(id).status == "cancelled"
        tell(tmp_path / "slow", "answer")
        one.wait_until(lambda: not one.models()["slow"]["active"])
        assert first.responses.retrieve(id).status == "cancelled"


def test_each_key_has_responses_of_its_own(tmp_path: Path, state: dict[str, str]) -> None:
    folder = pretend_model(tmp_path / "a")
    with Gateway({"a": folder}, environment=state, keys=["k1", "k2"]) as gateway:
        mine, other = connect(gateway, "k1"), connect(gateway, "k2")
        answer = respond(mine, model="a")
        conversation = mine.conversations.create()
        assert mine.responses.retrieve(answer.id).id == answer.id
        for look in (
            lambda: other.responses.retrieve(answer.id),
            lambda: other.responses.delete(answer.id),
            lambda: other.conversations.retrieve(conversation.id),
            lambda: respond(other, model="a", conversation=conversation.id),
        ):
            with pytest.raises(openai.NotFoundError):
                look()
        for fields in ({"previous_response_id": answer.id}, {"input": [{"id": answer.output[0].id}]}):
            with pytest.raises(openai.BadRequestError):
                respond(other, model="a", **fields)
    for path in (Path(state["XDG_STATE_HOME"]) / "diptych" / "responses").iterdir():
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path


def test_a_gateway_without_a_store_says_so(tmp_path: Path, state: dict[str, str]) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a")}, environment=state, store=False) as gateway:
        client = connect(gateway)
        assert not respond(client, model="a", store=True).store
        for name, fields in {
            "previous_response_id": {"previous_response_id": "resp_1"},
            "conversation": {"conversation": "conv_1"},
            "background": {"background": True},
            "input[0].id": {"input": [{"id": "msg_1"}]},
        }.items():
            with pytest.raises(openai.BadRequestError, match="--no-store") as caught:
                respond(client, model="a", **fields)
            assert caught.value.param == name
        with pytest.raises(openai.NotFoundError, match="--no-store"):
            client.responses.retrieve("resp_1")
    assert not (Path(state["XDG_STATE_HOME"]) / "diptych" / "responses").exists()


def test_a_corrupt_file_is_moved_aside(tmp_path: Path, state: dict[str, str]) -> None:
    file = Path(state["XDG_STATE_HOME"]) / "diptych" / "responses" / "responses.db"
    file.parent.mkdir(parents=True, mode=0o700)
    file.write_bytes(b"not a database, by far" * 1000)
    with Gateway({"a": pretend_model(tmp_path / "a")}, environment=state) as gateway:
        client = connect(gateway)
        answer = respond(client, model="a")
        assert answer.store
        assert client.responses.retrieve(answer.id).id == answer.id
        (aside,) = file.parent.glob("responses.db.corrupt-*")
        assert aside.read_bytes().startswith(b"not a database")
        assert "moved to" in gateway.log
        # Now while it is open: the next answer says that it could be stored all the same.
        with file.open("r+b") as opened:
            opened.write(b"\0" * os.path.getsize(file))
        assert respond(client, model="a").store
