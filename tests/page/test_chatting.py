"""The chat: streaming, stopping, breaking off, and text that would like to be more than text."""

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from tests.page.conftest import serving
from tests.page.test_drawing import tab
from tests.page.window import Window, check
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow

HOSTILE = """<img src=x onerror="window.hurt = 1"> and <script>window.hurt = 2</script>

[one](javascript:window.hurt=3) [two](data:text/html,<script>window.hurt=4</script>) ![three](https://elsewhere.example/a.png)

<iframe src="https://elsewhere.example"></iframe> <style>body { display: none }</style>

| <b>a</b> | b |
|---|---|
| <a href="https://elsewhere.example" onclick="window.hurt=5">c</a> | `<svg onload=window.hurt=6>` |

```html
</code></pre><img src=x onerror="window.hurt = 7">
```
"""


def say(page: Any, model: str, text: str, **settings: str) -> None:
    tab(page, "Chat")
    page.locator("#chat-model").select_option(model)
    for label, value in settings.items():
        page.get_by_label(label).fill(value)
    page.get_by_role("textbox", name="Message").fill(text)
    page.keyboard.press("Enter")


def last(page: Any) -> Any:
    return page.locator("#transcript article:not(.yours)").last


def test_a_conversation_is_written_as_it_comes_and_can_be_copied(opened: Any) -> None:
    opened.context.grant_permissions(["clipboard-read", "clipboard-write"])
    say(opened, "talk", "a red circle")
    expect(last(opened)).to_contain_text("tokens")
    expect(last(opened)).to_contain_text("red circle")
    say(opened, "talk", "make it blue")
    expect(last(opened)).to_contain_text("blue circle")
    expect(last(opened)).to_contain_text("tokens")
    last(opened).get_by_role("button", name="Copy").click()
    expect(last(opened).get_by_role("button", name="Copied")).to_be_visible()
    assert "blue circle" in opened.evaluate("() => navigator.clipboard.readText()")
    expect(opened.get_by_role("button", name="Regenerate")).to_have_count(1)
    opened.reload()
    tab(opened, "Chat")
    expect(opened.get_by_role("log")).to_contain_text("make it blue")
    expect(last(opened)).to_contain_text("blue circle")
    expect(opened.get_by_role("button", name="Regenerate")).to_have_count(1)
    say(opened, "talk", "a green square")
    expect(last(opened)).to_contain_text("tokens")
    opened.get_by_role("button", name="New chat").click()
    expect(opened.get_by_role("log")).to_contain_text("Start a conversation")
    opened.reload()
    tab(opened, "Chat")
    expect(opened.get_by_role("log")).to_contain_text("Start a conversation")


def test_an_answer_is_stopped_and_what_was_written_stays(opened: Any, gateway: Gateway) -> None:
    say(opened, "toy", "on and on")
    expect(last(opened)).to_have_attribute("aria-busy", "true")
    expect(last(opened).locator(".prose")).not_to_be_empty()
    opened.get_by_role("button", name="Stop", exact=True).click()
    expect(last(opened)).to_contain_text("Stopped")
    expect(last(opened).locator(".prose")).not_to_be_empty()
    (toy,) = [
        model for model in gateway.http.get("/models").json()["models"] if "shapes" not in model["name"]
    ]
    gateway.wait_until(lambda: not any(model["active"] for model in gateway.models().values()))
    assert toy["mode"] == "text"
    expect(opened.get_by_role("button", name="Send")).to_be_visible()


def test_a_runner_that_dies_in_mid_stream_is_told_of_and_the_next_answer_comes(
    opened: Any, gateway: Gateway
) -> None:
    say(opened, "toy", "on and on")
    expect(last(opened).locator(".prose")).not_to_be_empty()
    (pid,) = [model["pid"] for model in gateway.models().values() if model["active"]]
    os.kill(pid, signal.SIGKILL)
    fault = last(opened).get_by_role("alert")
    expect(fault).to_contain_text("SIGKILL")
    say(opened, "talk", "a red circle")
    expect(last(opened)).to_contain_text("red circle")
    expect(last(opened)).to_contain_text("tokens")


def test_settings_that_cannot_be_are_a_sentence_and_another_try(opened: Any) -> None:
    tab(opened, "Chat")
    opened.locator("#composer summary").click()
    say(opened, "talk", "a red circle", Temperature="-3")
    fault = last(opened).get_by_role("alert")
    expect(fault).to_contain_text("emperature")
    expect(fault).to_contain_text("-3")
    opened.get_by_label("Temperature").fill("0")
    fault.get_by_role("button", name="Try again").click()
    expect(last(opened)).to_contain_text("tokens")


THOUGHTFUL = [{"thinking": "Let me "}, {"thinking": "see."}, "Seen", " and **done**."]


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway whose models say what they are told to say."""
    home = tmp_path_factory.mktemp("models")
    folders = {
        "liar": pretend_model(home / "liar", say=[HOSTILE[:90], HOSTILE[90:]]),
        "thinker": pretend_model(home / "thinker", say=THOUGHTFUL, load=2, pause=0.3),
    }
    for folder in folders.values():  # what the page lists must look complete
        (folder / "config.json").write_text(json.dumps({"model_type": "qwen3"}))
        (folder / "tokenizer.json").write_text("{}")
    with serving(folders, tmp_path_factory.mktemp("home"), pretend=True) as gateway:
        yield gateway


def test_a_model_is_loaded_before_it_thinks_and_thinks_before_it_writes(browser: Any, liar: Gateway) -> None:
    with Window(browser, liar.url) as window:
        say(window.page, "thinker", "Well?")
        answer = last(window.page)
        expect(answer).to_contain_text("Loading the model")
        expect(answer).to_contain_text("Thinking")
        expect(answer.locator(".prose")).to_have_text("Seen and done.")
        expect(answer.locator(".thoughts")).to_be_hidden()
        answer.get_by_text("Thoughts").click()
        expect(answer.locator(".thoughts")).to_have_text("Let me see.")
    assert not window.complaints


def test_hostile_text_is_shown_and_is_no_markup(browser: Any, liar: Gateway) -> None:
    with Window(browser, liar.url, bypass_csp=True) as window:
        page = window.page
        say(page, "liar", "<b onmouseover=window.hurt=8>hi</b>")
        expect(last(page)).not_to_have_attribute("aria-busy", "true")
        prose = last(page).locator(".prose")
        expect(prose).to_contain_text('<img src=x onerror="window.hurt = 1">')
        expect(prose).to_contain_text("<script>window.hurt = 2</script>")
        expect(prose.locator("pre")).to_contain_text('</code></pre><img src=x onerror="window.hurt = 7">')
        assert page.locator("#transcript :is(img, script, iframe, style, svg:not(.glyph), b)").count() == 0
        hrefs = prose.locator("a").evaluate_all("(links) => links.map((link) => link.href)")
        assert hrefs
        assert all(href.startswith("https://elsewhere.example") for href in hrefs)
        assert page.evaluate("() => window.hurt") is None
        expect(page.locator("body")).to_be_visible()
        check(page, "a conversation")
    assert not window.complaints
    assert not window.strangers


@pytest.fixture
def markdown(opened: Any) -> Any:
    """Markdown to the tags and texts that are made of it."""
    code = """async (text) => {
        const { Markdown } = await import("/page/markdown.js");
        const root = document.createElement("div");
        new Markdown(root).text = text;
        for (const node of root.querySelectorAll("figcaption")) node.remove();
        for (const node of root.querySelectorAll("*")) for (const name of node.getAttributeNames())
            if (!["href", "start", "class"].includes(name)) node.removeAttribute(name);
        return root.innerHTML;
    }"""
    return lambda text: opened.evaluate(code, text)


CASES = {
    "a *b* **c** ***d*** ~~e~~ `f*g*`": "<p>a <em>b</em> <strong>c</strong> <em><strong>d</strong></em> <s>e</s> <code>f*g*</code></p>",
    "snake_case_name and 2 * 3 * 4 and \\*no\\*": "<p>snake_case_name and 2 * 3 * 4 and *no*</p>",
    "# A\n\n### B ###": "<h3>A</h3><h5>B</h5>",
    "- a\n- b\n  - c\n- d": "<ul><li>a</li><li>b<ul><li>c</li></ul></li><li>d</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "> a\n> b\n\nc": "<blockquote><p>a\nb</p></blockquote><p>c</p>",
    "a\n\n---\n\nb": "<p>a</p><hr><p>b</p>",
    "[a](https://example.org/x) https://example.org/y.": '<p><a href="https://example.org/x">a</a> <a href="https://example.org/y">https://example.org/y</a>.</p>',
    "| a | b |\n|---|--:|\n| 1 | 2 |": '<div class="wide"><table><thead><tr><th>a</th><th class="right">b</th></tr></thead><tbody><tr><td>1</td><td class="right">2</td></tr></tbody></table></div>',
    "```\na < b\n\nc\n```\nd": '<figure class="code"><pre><code>a &lt; b\n\nc</code></pre></figure><p>d</p>',
    "```python\nif x:  # why": '<figure class="code"><pre><code><span class="code-word">if</span> x:  <span class="code-comment"># why</span></code></pre></figure>',
    " - a\n - b": "<ul><li>a</li><li>b</li></ul>",
    "a | b\n- c": "<p>a | b</p><ul><li>c</li></ul>",
    "1. a\n\n   ```\n   x\n   ```\n2. b": '<ol start="1"><li><p>a</p><figure class="code"><pre><code>x</code></pre></figure></li><li><p>b</p></li></ol>',
}


def test_markdown_becomes_what_it_means(markdown: Any) -> None:
    for text, html in CASES.items():
        assert markdown(text) == html


def test_a_text_that_grows_ends_as_if_it_had_come_at_once(opened: Any) -> None:
    code = """async (text) => {
        const { Markdown } = await import("/page/markdown.js");
        const [grown, whole] = [document.createElement("div"), document.createElement("div")];
        const growing = new Markdown(grown);
        for (let end = 1; end <= text.length; end += 1) growing.text = text.slice(0, end);
        new Markdown(whole).text = text;
        return [grown.innerHTML, whole.innerHTML];
    }"""
    grown, whole = opened.evaluate(code, "\n\n".join([*CASES, HOSTILE]))
    assert grown == whole


def test_no_text_breaks_it_or_makes_other_elements_than_those_of_markdown(opened: Any) -> None:
    code = """async ([count, parts, allowed]) => {
        const { Markdown } = await import("/page/markdown.js");
        let state = 1;
        const below = (most) => (state = (state * 48271) % 2147483647) % most;
        for (let round = 0; round < count; round += 1) {
            const text = Array.from({ length: 1 + below(25) }, () => parts[below(parts.length)]).join("");
            const [grown, whole] = [document.createElement("div"), document.createElement("div")];
            try {
                const growing = new Markdown(grown);
                growing.text = text.slice(0, text.length / 2);
                growing.text = text;
                new Markdown(whole).text = text;
            } catch (error) {
                return [text, String(error)];
            }
            const strange = [...whole.querySelectorAll("*")].find((node) => !allowed.includes(node.localName));
            if (strange || grown.innerHTML !== whole.innerHTML) return [text, whole.innerHTML];
        }
        return null;
    }"""
    parts = [
        *"*_`[]()!<|#\\\t\n",
        "**",
        "```",
        "~~~",
        "> ",
        "- ",
        " - ",
        "1. ",
        "\n\n",
        "---",
        "|--|",
        "a",
        "b c",
        "  ",
        "    ",
    ]
    parts += ["https://x.y/", "javascript:", "<img src=x onerror=a()>", "é", "𝒳"]
    markdown = (
        "p em strong s code a br span h3 h4 h5 h6 hr ul ol li blockquote table thead tbody tr th td div"
    )
    ours = "figure figcaption pre button svg path"
    assert opened.evaluate(code, [4000, parts, f"{markdown} {ours}".split()]) is None


def test_no_text_is_slow_to_show(opened: Any) -> None:
    """Whatever is written many times over takes a moment and no more: ten times the text, not a hundred times the time."""
    code = """async (piece) => {
        const { Markdown } = await import("/page/markdown.js");
        const time = (count) => {
            const began = performance.now();
            new Markdown(document.createElement("div")).text = piece.repeat(count);
            return performance.now() - began;
        };
        time(100);
        return time(20000);
    }"""
    for piece in (
        "*a ",
        "a**b",
        "[",
        "[a](",
        "`",
        "``a`",
        "> ",
        "- ",
        "_a_b",
        "<",
        "![",
        "~~a",
        "| a ",
        "|-",
        "\\",
        "h",
        "http://",
        "# ",
        "1. a\n",
    ):
        assert opened.evaluate(code, piece) < 10_000, piece
