"""What goes into a request, and a conversation as a file."""

import base64
import json
from pathlib import Path

import msgspec
import pytest

from runner.cli.chat.conversation import Conversation
from runner.cli.chat.prompt import harmless
from runner.errors import BadRequest, DiptychError
from runner.protocol.text import Options
from tests.runner.pictures import sent


def talked() -> Conversation:
    conversation = Conversation("model", system="be brief")
    conversation.add("one", "two")
    conversation.set("seed", "7")
    return conversation


def test_a_request_holds_everything_that_was_said() -> None:
    assert msgspec.to_builtins(talked().request("three")) == {
        "messages": [
            {"role": "system", "content": "be brief"},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three"},
        ],
        "options": {"temperature": 0.7, "seed": 7},
    }


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("temperature", "0", 0),
        ("top_p", "0.9", 0.9),
        ("stop", '["a", "b"]', ["a", "b"]),
        ("stop", "END", "END"),
    ],
)
def test_options_are_numbers_lists_and_plain_words(name: str, text: str, value: object) -> None:
    conversation = Conversation("model")
    conversation.set(name, text)
    assert getattr(conversation.request("x").options, name) == value
    conversation.set(name, "")
    assert getattr(conversation.request("x").options, name) == getattr(Options(), name)


def test_thinking_is_on_off_or_the_models_way() -> None:
    conversation = Conversation("model")
    for text, expected in (("on", True), ("off", False)):
        conversation.set("think", text)
        assert conversation.request("x").think is expected
    conversation.set("think", "")
    assert conversation.request("x").think is None


@pytest.mark.parametrize(
    ("name", "text"),
    [("temperature", "-1"), ("temperature", "NaN"), ("colour", "1"), ("think", "hard"), ("stop", "[1]"), ("seed", "[" * 10_000)],
)  # fmt: skip
def test_what_is_not_allowed_changes_nothing(name: str, text: str) -> None:
    conversation = talked()
    with pytest.raises(BadRequest):
        conversation.set(name, text)
    assert conversation == talked()


def test_a_saved_conversation_goes_on_where_it_ended(tmp_path: Path) -> None:
    talked().save(tmp_path / "talk.json")
    other = Conversation("another")
    other.load(tmp_path / "talk.json")
    assert (other.turns, other.system, other.options) == (talked().turns, "be brief", talked().options)
    assert other.model == "another"
    other.save(tmp_path / "talk.json")
    assert [path.name for path in tmp_path.iterdir()] == ["talk.json"]


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{}", b"\xff", b'{"format": "diptych chat"}', b"[" * 100_000,
     b'{"format": "other", "model": "m", "messages": []}',
     b'{"format": "diptych chat", "model": "m", "messages": [], "options": {"temperature": -1}}'],
)  # fmt: skip
def test_a_file_that_is_something_else_is_neither_read_nor_overwritten(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    conversation = talked()
    with pytest.raises(BadRequest):
        conversation.load(path)
    with pytest.raises(BadRequest):
        conversation.save(path)
    assert conversation == talked()
    assert path.read_bytes() == content


def test_places_that_cannot_be_written_are_named(tmp_path: Path) -> None:
    with pytest.raises(DiptychError, match="absent"):
        talked().save(tmp_path / "absent" / "talk.json")
    with pytest.raises(DiptychError, match="is not a file"):
        talked().save(tmp_path)


def test_saved_files_are_json_for_people(tmp_path: Path) -> None:
    talked().save(tmp_path / "talk.json")
    assert json.loads((tmp_path / "talk.json").read_text())["messages"][0] == {
        "role": "user",
        "content": "one",
    }


def test_a_models_words_do_not_steer_the_terminal() -> None:
    assert harmless("a\x1b[31mb\x07\r\n\tc\x9b2Jé") == "a[31mb\n\tc2Jé"


def test_pictures_go_with_the_next_prompt_and_stay_in_the_conversation(tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(base64.b64decode(sent(1)))
    conversation = Conversation("model")
    conversation.show(file)
    images = [sent(1)]
    asked = [{"role": "user", "content": "one", "images": images}]
    assert msgspec.to_builtins(conversation.request("one"))["messages"] == asked
    conversation.add("one", "two")
    later = [*asked, {"role": "assistant", "content": "two"}, {"role": "user", "content": "three"}]
    assert msgspec.to_builtins(conversation.request("three"))["messages"] == later
    conversation.save(tmp_path / "saved.json")
    loaded = Conversation("model")
    loaded.load(tmp_path / "saved.json")
    assert loaded.turns == conversation.turns
    for _ in range(9):
        conversation.show(file)
    with pytest.raises(BadRequest, match="at most 10 pictures"):
        conversation.show(file)


def test_what_is_no_picture_is_refused_before_it_is_sent(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("words")
    conversation = Conversation("model")
    with pytest.raises(
        BadRequest, match=r"a.txt: the picture is of an unknown format; PNG, JPEG and WebP are accepted"
    ):
        conversation.show(tmp_path / "a.txt")
    with pytest.raises(BadRequest, match=r"b.png does not exist"):
        conversation.show(tmp_path / "b.png")
    assert not conversation.pictures
