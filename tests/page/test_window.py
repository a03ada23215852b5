"""The page as a window: its key, its models, day and night, small and large, by keyboard, for screen readers."""

from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import serving
from tests.page.test_drawing import CIRCLE, draw, finished, tab
from tests.page.window import Window, check
from tests.runner.gateway.live import Gateway

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow
VIEWS = ("Draw", "Chat", "Gallery", "Models", "Queue", "Settings")


def test_a_key_is_asked_for_refused_and_taken(browser: Any, folders: dict[str, Path], tmp_path: Path) -> None:
    with (
        serving(folders, tmp_path, keys=["open sesame"]) as gateway,
        Window(browser, gateway.url, bypass_csp=True) as window,
    ):
        page = window.page
        asked = page.get_by_role("dialog", name="API key needed")
        expect(asked).to_be_visible()
        check(page, "the key")
        asked.get_by_label("Key").fill("open barley")
        page.keyboard.press("Enter")
        expect(asked.get_by_role("alert")).to_contain_text("not valid for this gateway")
        asked.get_by_label("Key").fill("open sesame")
        asked.get_by_role("button", name="Continue").click()
        expect(asked).to_be_hidden()
        draw(page, CIRCLE, Steps="1")
        finished(page, CIRCLE)
        page.reload()
        expect(page.locator("#draw-model")).to_have_value("shapes")
        expect(asked).to_be_hidden()
        kept = page.evaluate(
            "() => [JSON.stringify(sessionStorage), JSON.stringify(localStorage), document.cookie]"
        )
        assert "sesame" in kept[0]
        assert "sesame" not in "".join(kept[1:])


def test_without_a_key_the_page_says_what_it_lacks(
    browser: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    with serving(folders, tmp_path, keys=["secret"]) as gateway, Window(browser, gateway.url) as window:
        window.page.get_by_role("button", name="Cancel").click()
        notice = window.page.locator("#notice")
        expect(notice).to_contain_text("This gateway needs an API key.")
        notice.get_by_role("button", name="Enter the key").click()
        expect(window.page.get_by_role("dialog")).to_be_visible()


def test_models_are_listed_loaded_and_unloaded(opened: Any, gateway: Gateway) -> None:
    tab(opened, "Models")
    row = opened.locator("#models li").filter(has=opened.get_by_text("talk", exact=False))
    expect(row).to_contain_text("text")
    if row.get_by_role("button", name="Unload talk").count():
        row.get_by_role("button", name="Unload talk").click()
    expect(row).to_contain_text("not loaded")
    row.get_by_role("button", name="Load talk").click()
    expect(row).to_contain_text("loaded, ")
    assert gateway.models()["text_encoder"]["state"] == "ready"
    expect(opened.get_by_role("meter")).to_be_visible()
    row.get_by_role("button", name="Chat with talk").click()
    expect(opened.locator("#chat-model")).to_have_value("talk")
    expect(opened.get_by_role("heading", name="Chat")).to_be_visible()


def test_a_gateway_that_goes_away_is_missed_in_a_sentence(
    browser: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    with serving(folders, tmp_path) as gateway, Window(browser, gateway.url) as window:
        page = window.page
        expect(page.locator("#draw-model")).to_have_value("shapes")
        assert gateway.stop() == 0
        draw(page, CIRCLE, Steps="1")
        expect(page.locator("#stage").get_by_role("alert")).to_contain_text("not")
        expect(page.locator("#notice")).to_contain_text("start it again with “diptych serve”")
        draw(page, CIRCLE, Steps="1")
        expect(page.locator("#stage").get_by_role("alert")).to_contain_text("The picture was not drawn.")
        tab(page, "Models")
        expect(page.locator("#models")).to_contain_text("shapes")
        expect(page.locator("#models")).not_to_contain_text("loaded")


def test_settings_show_where_things_are_and_the_theme_is_kept(opened: Any) -> None:
    tab(opened, "Settings")
    expect(opened.locator("#settings-places")).to_contain_text("Memory for models")
    expect(opened.locator("#settings-places")).to_contain_text("gallery")
    opened.get_by_label("Dark", exact=True).check()
    opened.reload()
    paper = opened.evaluate(
        "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
    )
    assert max(paper) < 64
    report = {"status": "warn", "seconds": 2.0, "findings": [
        {"section": "device", "name": "card", "status": "warn", "detail": "is slow", "advice": "wait"}]}  # fmt: skip
    opened.route("**/settings/doctor", lambda route: route.fulfill(json=report))
    opened.get_by_role("button", name="Examine this machine").click()
    expect(opened.locator("#doctor")).to_contain_text("card: is slow")


def test_everything_can_be_reached_and_done_by_keyboard(opened: Any) -> None:
    expect(opened.locator("#draw-model")).to_have_value("shapes")
    opened.keyboard.press("Tab")
    expect(opened.get_by_role("link", name="Skip to content")).to_be_focused()
    opened.keyboard.press("Enter")
    opened.keyboard.press("Tab")
    expect(opened.locator("#draw-model")).to_be_focused()
    opened.keyboard.press("Tab")
    expect(opened.get_by_role("link", name="Get another model")).to_be_focused()
    opened.keyboard.press("Tab")
    opened.keyboard.type(CIRCLE)
    opened.keyboard.press("Control+Enter")
    picture = finished(opened, CIRCLE)
    picture.focus()
    opened.keyboard.press("Enter")
    expect(opened.get_by_role("dialog", name="Recipe")).to_be_visible()
    opened.keyboard.press("Escape")
    expect(opened.get_by_role("dialog")).to_have_count(0)
    expect(picture).to_be_focused()


@pytest.mark.parametrize(
    ("scheme", "width"), [("light", 1280), ("dark", 1280), ("light", 320), ("dark", 390)], ids=str
)
def test_every_view_is_for_everybody_by_day_and_by_night_small_and_large(
    browser: Any, gateway: Gateway, scheme: str, width: int
) -> None:
    how = {"color_scheme": scheme, "viewport": {"width": width, "height": 800}, "bypass_csp": True}
    gateway.http.delete("/gallery")
    with Window(browser, gateway.url, **how) as window:
        page = window.page
        draw(page, CIRCLE, Steps="1")
        finished(page, CIRCLE)
        for view in VIEWS:
            tab(page, view)
            expect(page.get_by_role("heading", name=view, exact=True)).to_be_visible()
            check(page, view)
            room = page.evaluate("() => document.documentElement.scrollWidth - innerWidth")
            assert room <= 0, f"{view} is wider than its window by {room}"
        tab(page, "Gallery")
        page.get_by_role("button", name=CIRCLE).click()
        check(page, "a picture")
        paper = page.evaluate(
            "() => getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)"
        )
        assert (max(paper) < 64) is (scheme == "dark")
    assert not window.complaints
