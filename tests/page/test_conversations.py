"""Conversations on the page: kept, named, searched, exported, edited; files of text; answers that are drawn."""

from pathlib import Path
from typing import Any

import pytest

from tests.page.test_chatting import last, say
from tests.page.test_drawing import tab

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow


def listed(page: Any) -> Any:
    page.get_by_role("button", name="Conversations", exact=True).click()
    return page.get_by_role("dialog", name="Conversations")


def test_conversations_are_kept_searched_named_exported_and_deleted(opened: Any) -> None:
    tab(opened, "Chat")
    opened.locator("#composer summary").click()
    say(opened, "talk", "a red circle", **{"System prompt": "Be brief."})
    expect(last(opened)).to_contain_text("tokens")
    opened.get_by_role("button", name="New chat").click()
    say(opened, "talk", "a green square", **{"System prompt": ""})
    expect(last(opened)).to_contain_text("tokens")
    dialog = listed(opened)
    expect(dialog.get_by_role("listitem")).to_have_count(2)
    dialog.get_by_label("Search conversations").fill("RED")
    expect(dialog.get_by_role("listitem")).to_have_count(1)
    dialog.get_by_role("button", name="Rename a red circle").click()
    dialog.get_by_label("Name of the conversation").fill("My circle")
    opened.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Open My circle")).to_be_visible()
    with opened.expect_download() as downloading:
        dialog.get_by_role("button", name="Export My circle").click()
    text = Path(downloading.value.path()).read_text()
    assert text.startswith(
        "# My circle\n\n*System prompt: Be brief.*\n\n## You\n\na red circle\n\n## Answer (talk)"
    )
    dialog.get_by_role("button", name="Open My circle").click()
    expect(opened.get_by_role("log")).to_contain_text("a red circle")
    expect(opened.get_by_label("System prompt")).to_have_value("Be brief.")
    dialog = listed(opened)
    dialog.get_by_role("button", name="Delete My circle").click()
    expect(opened.get_by_role("log")).to_contain_text("Start a conversation")
    opened.get_by_role("button", name="Undo").click()
    expect(listed(opened).get_by_role("listitem")).to_have_count(2)


def test_a_turn_is_edited_and_an_answer_is_drawn(opened: Any) -> None:
    say(opened, "talk", "a red circle")
    expect(last(opened)).to_contain_text("tokens")
    say(opened, "talk", "make it blue")
    expect(last(opened)).to_contain_text("blue circle")
    expect(last(opened)).to_contain_text("tokens")  # while it is written, nothing is edited
    opened.locator("#transcript .yours").first.get_by_role("button", name="Edit").click()
    expect(opened.locator("#transcript article")).to_have_count(0)
    message = opened.get_by_role("textbox", name="Message")
    expect(message).to_have_value("a red circle")
    with opened.expect_request("**/completion") as asked:
        say(opened, "talk", "a yellow star")
    assert asked.value.post_data_json["messages"] == [{"role": "user", "content": "a yellow star"}]
    expect(last(opened)).to_contain_text("tokens")
    said = last(opened).locator(".prose").inner_text()
    last(opened).get_by_role("button", name="Draw this").click()
    expect(opened.get_by_label("Prompt", exact=True)).to_be_focused()
    assert opened.get_by_label("Prompt", exact=True).input_value().strip() == said.strip()


def test_files_of_text_go_before_the_message_and_others_are_refused(opened: Any) -> None:
    tab(opened, "Chat")
    chosen = opened.locator("#text-file")
    chosen.set_input_files({"name": "a.bin", "mimeType": "text/plain", "buffer": b"\xff\x00\xfe"})
    expect(opened.locator("#chat-hint")).to_have_text("a.bin is not a file of text.")
    chosen.set_input_files({"name": "big.txt", "mimeType": "text/plain", "buffer": b"x" * 1_000_001})
    expect(opened.locator("#chat-hint")).to_contain_text("at most")
    chosen.set_input_files({"name": "a.md", "mimeType": "text/plain", "buffer": b"one\n```\ntwo\n```\n"})
    expect(opened.locator("#text-files")).to_contain_text("a.md")
    with opened.expect_request("**/completion") as asked:
        say(opened, "talk", "a red circle")
    (message,) = asked.value.post_data_json["messages"]
    assert message["content"] == "a.md:\n````\none\n```\ntwo\n```\n````\n\na red circle"
    expect(opened.locator("#text-files")).to_be_hidden()
