"""The pictures of the page in docs/, made anew: uv run --group page python -m tests.page.screenshots"""

import io
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import expect, sync_playwright

from tests.page.conftest import SAMPLE, chromium, serving
from tests.page.test_drawing import draw, finished, tab
from tests.page.window import Window
from tests.runner.live import ROOT
from tests.waiting import PATIENCE

DOCS = ROOT / "docs"
PROMPTS = (
    ("a violet star on a black background", 5),
    ("three orange triangles", 3),
    ("a large green ring", 8),
    ("a turquoise cross left of a pink circle", 4),
    ("a large yellow star above a small blue square on a white background", 2),
    ("a large red circle above a blue square", 7),
)
WIDE = {"viewport": {"width": 1280, "height": 800}}
PHONE = {"viewport": {"width": 390, "height": 800}, "has_touch": True, "is_mobile": True}


def main() -> None:
    expect.set_options(timeout=1000 * PATIENCE)
    folders = {"shapes": SAMPLE, "shapes-chat": SAMPLE / "text_encoder"}
    with (
        tempfile.TemporaryDirectory() as home,
        serving(folders, Path(home)) as gateway,
        sync_playwright() as play,
    ):
        browser = play.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
        with Window(browser, gateway.url, color_scheme="light", **WIDE) as window:
            drawn(window.page)
            keep(window.page, "page-draw.png")
        with Window(browser, gateway.url, color_scheme="dark", **WIDE) as window:
            talked(window.page)
            keep(window.page, "page-chat.png")
        with Window(browser, gateway.url, color_scheme="light", **PHONE) as window:
            tab(window.page, "Gallery")
            window.page.wait_for_selector(".pictures img")
            keep(window.page, "page-phone.png")
        browser.close()


def drawn(page: Any) -> None:
    page.wait_for_selector("#draw-model option[value=shapes]", state="attached")
    for prompt, seed in PROMPTS:
        draw(page, prompt, Seed=str(seed))
        finished(page, prompt)
    page.evaluate("() => document.activeElement.blur()")


def talked(page: Any) -> None:
    page.wait_for_selector("#chat-model option[value=shapes-chat]", state="attached")
    tab(page, "Chat")
    for said in ("a circle", "make it blue", "what colour is the sky?"):
        page.get_by_role("textbox", name="Message").fill(said)
        page.keyboard.press("Enter")
        page.wait_for_selector(".retry")
        page.wait_for_selector("[aria-busy=true]", state="detached")


def keep(page: Any, name: str) -> None:
    page.wait_for_timeout(400)
    picture = Image.open(io.BytesIO(page.screenshot()))
    picture.convert("RGB").save(DOCS / name, optimize=True)
    print(name, (DOCS / name).stat().st_size)


if __name__ == "__main__":
    main()
