"""Masks painted on the page: with the pointer, by keyboard, erased, inverted, undone."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.page.window import Window, check

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow

BYTES = """async () => {
    const blob = await (await fetch(document.querySelector("#mask-image").src)).blob();
    return [...new Uint8Array(await blob.arrayBuffer())];
}"""


def mask(page: Any) -> Image.Image:
    before = page.locator("#mask-image").get_attribute("src") or "none"
    page.get_by_role("button", name="Use this mask").click()
    expect(page.get_by_alt_text("Mask", exact=True)).to_be_visible()
    expect(page.locator("#mask-image")).not_to_have_attribute("src", before)
    return Image.open(io.BytesIO(bytes(page.evaluate(BYTES)))).convert("L")


def stroke(page: Any, height: float) -> None:
    box = page.locator(".painting canvas").bounding_box()
    page.mouse.move(box["x"] + 2, box["y"] + height * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] - 2, box["y"] + height * box["height"], steps=4)
    page.mouse.up()


def test_a_mask_is_painted_erased_inverted_and_undone(browser: Any, gateway: Any, tmp_path: Path) -> None:
    Image.new("RGB", (120, 60), "blue").save(tmp_path / "blue.png")
    with Window(browser, gateway.url, bypass_csp=True) as window:
        page = window.page
        page.locator("#file").set_input_files(tmp_path / "blue.png")
        page.get_by_role("button", name="Paint a mask").click()
        check(page, "the brush")
        page.get_by_role("button", name="Use this mask").click()
        expect(page.locator("#brush")).to_contain_text("Nothing is painted yet")
        stroke(page, 0.2)
        painted = mask(page)
        assert painted.size == (120, 60)
        assert (painted.getpixel((60, 12)), painted.getpixel((60, 50))) == (255, 0)
        page.get_by_role("button", name="Paint a mask").click()  # goes on from there
        page.get_by_role("button", name="Invert").click()
        page.get_by_role("button", name="Erase").click()
        stroke(page, 0.9)
        changed = mask(page)
        assert [changed.getpixel((60, at)) for at in (12, 35, 55)] == [0, 255, 0]
        page.get_by_role("button", name="Paint a mask").click()
        page.get_by_role("button", name="Clear").click()
        page.locator(".painting canvas").focus()
        page.keyboard.press("Space")
        page.get_by_role("button", name="Undo").click()
        page.get_by_role("button", name="Undo").click()
        assert list(mask(page).getdata()) == list(changed.getdata())
    assert not window.complaints
