"""Pictures in the chat: added, dropped, pasted, removed, sent and shown."""

import base64
from pathlib import Path
from typing import Any

import pytest

from tests.page.test_chatting import last, say
from tests.page.test_drawing import tab
from tests.runner.pictures import sent

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow

GIVE = """([place, event, text]) => {
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const data = new DataTransfer();
    data.items.add(new File([bytes], "a.png", { type: "image/png" }));
    const how = { bubbles: true, cancelable: true };
    const made = event === "drop" ? new DragEvent("drop", { ...how, dataTransfer: data })
                                  : new ClipboardEvent("paste", { ...how, clipboardData: data });
    document.querySelector(place).dispatchEvent(made);
}"""


def test_pictures_are_added_dropped_pasted_removed_sent_and_shown(opened: Any, tmp_path: Path) -> None:
    tab(opened, "Chat")
    opened.locator("#chat-model").select_option("sees")
    (tmp_path / "one.png").write_bytes(base64.b64decode(sent(1)))
    opened.locator("#chat-file").set_input_files(tmp_path / "one.png")
    waiting = opened.get_by_role("list", name="Pictures to show").get_by_role("listitem")
    expect(waiting).to_have_count(1)
    opened.evaluate(GIVE, ["#message", "paste", sent(2)])
    expect(waiting).to_have_count(2)
    opened.evaluate(GIVE, ["#transcript", "drop", sent(3)])
    expect(waiting).to_have_count(3)
    opened.locator("#view-chat").get_by_role("button", name="Remove picture 2").click()
    expect(waiting).to_have_count(2)
    opened.locator("#composer summary").click()
    with opened.expect_request("**/completion") as asked:
        say(opened, "sees", "What are these?", **{"Max tokens": "6"})
    assert asked.value.post_data_json["messages"] == [
        {"role": "user", "content": "What are these?", "images": [sent(1), sent(3)]}
    ]
    expect(last(opened)).to_contain_text("tokens")
    expect(opened.locator("#transcript .yours img")).to_have_count(2)
    expect(waiting).to_have_count(0)
    with opened.expect_request("**/completion") as later:
        say(opened, "sees", "And now?")
    messages = later.value.post_data_json["messages"]
    assert [len(message.get("images", ())) for message in messages] == [2, 0, 0]
    expect(last(opened)).to_contain_text("tokens")


def test_a_model_that_reads_only_text_is_shown_no_pictures(opened: Any) -> None:
    tab(opened, "Chat")
    opened.locator("#chat-model").select_option("talk")
    expect(opened.get_by_role("button", name="Add a picture")).to_be_hidden()
    opened.evaluate(GIVE, ["#message", "paste", sent(1)])
    expect(opened.locator("#chat-hint")).to_have_text("This model reads only text.")
    expect(opened.locator("#chat-pictures")).to_be_hidden()
    opened.locator("#chat-model").select_option("sees")
    opened.locator("#chat-file").set_input_files({"name": "a.txt", "mimeType": "image/png", "buffer": b"no"})
    expect(opened.locator("#chat-hint")).to_have_text("a.txt is not a readable picture.")
