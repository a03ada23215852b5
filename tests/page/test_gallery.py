"""The gallery that the gateway keeps: other browsers see it, drawings go on without the page, and browsers alone manage too."""

import re
import zipfile
from pathlib import Path
from typing import Any

import pytest

from tests.page.conftest import serving
from tests.page.test_drawing import CIRCLE, draw, finished, tab
from tests.page.window import Window
from tests.runner.gateway.live import Gateway

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow


def test_a_drawing_goes_on_when_the_page_is_closed_and_another_browser_finds_it(
    opened: Any, browser: Any, gateway: Gateway
) -> None:
    draw(opened, CIRCLE, Steps="900")
    expect(opened.locator("#stage")).to_contain_text("of 900")
    opened.goto("about:blank")
    with Window(browser, gateway.url) as other:
        expect(other.page.locator("#stage")).to_contain_text("of 900")
        draw(other.page, "a blue ring", Steps="1", Seed="4")
        tab(other.page, "Queue")
        other.page.get_by_role("button", name=f"Stop: {CIRCLE}").click()
        expect(other.page.get_by_text("No jobs.")).to_be_visible()
    opened.goto(gateway.url)
    tab(opened, "Gallery")
    expect(opened.get_by_role("list").get_by_role("button", name="a blue ring")).to_be_visible()
    opened.get_by_role("button", name="a blue ring").click()
    recipe = opened.get_by_role("dialog", name="Recipe")
    expect(recipe).to_contain_text("Seed4")
    recipe.get_by_role("button", name="Favourite").click()
    expect(recipe.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    recipe.get_by_role("button", name="Close").click()
    opened.get_by_label("Favourites").check()
    expect(opened.locator("#pictures .starred")).to_have_count(1)
    with opened.expect_download() as downloading:
        opened.get_by_role("button", name="Download as zip").click()
    (name,) = zipfile.ZipFile(Path(downloading.value.path())).namelist()
    assert name.startswith("a-blue-ring-4-")


def test_with_a_key_pictures_are_fetched_with_it(
    browser: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    with serving(folders, tmp_path, keys=["sesame"]) as gateway, Window(browser, gateway.url) as window:
        page = window.page
        page.get_by_role("textbox", name="API key").fill("sesame")
        page.keyboard.press("Enter")
        draw(page, CIRCLE, Steps="1")
        for image in (finished(page, CIRCLE).locator("img"), page.locator("#pictures img")):
            expect(image).to_have_attribute("src", re.compile("^blob:"))
            assert image.evaluate("async (image) => { await image.decode(); return image.naturalWidth }") > 0
            tab(page, "Gallery")
    assert not window.complaints


def test_without_a_gallery_the_browser_keeps_the_pictures(
    browser: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    with serving(folders, tmp_path, gallery=False) as gateway, Window(browser, gateway.url) as window:
        page = window.page
        draw(page, CIRCLE, Steps="1")
        finished(page, CIRCLE)
        page.reload()
        tab(page, "Gallery")
        expect(page.locator("#gallery-note")).to_have_text("1 picture, stored in this browser only.")
        expect(page.get_by_role("button", name="Download as zip")).to_be_hidden()
        page.get_by_role("button", name=CIRCLE).click()
        page.get_by_role("dialog").get_by_role("button", name="Delete").click()
        expect(page.locator("#gallery-note")).to_contain_text("No pictures yet")
        page.get_by_role("button", name="Undo").click()
        expect(page.get_by_role("button", name=CIRCLE)).to_have_count(1)
    assert not window.complaints
