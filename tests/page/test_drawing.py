"""The drawing board: previews, stopping, editing, the gallery."""

from typing import Any

import pytest

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow
SLOW = 60_000


def draw(page: Any, prompt: str, **fields: str) -> None:
    for label, value in {"Prompt": prompt, **fields}.items():
        page.get_by_label(label, exact=True).fill(value)
    page.get_by_role("button", name="Draw", exact=True).click()


def finished(page: Any, prompt: str) -> Any:
    """The picture on the stage, once it is drawn."""
    picture = page.get_by_role("button", name=f"Look at: {prompt}")
    expect(picture).to_be_visible(timeout=SLOW)
    return picture


def colour(page: Any, picture: Any, x: float, y: float) -> list[int]:
    """The pixel at a place of a picture on the page."""
    return picture.locator("img").evaluate(
        """async (image, [x, y]) => {
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
            const context = canvas.getContext("2d");
            context.drawImage(image, 0, 0);
            return [...context.getImageData(x * canvas.width, y * canvas.height, 1, 1).data].slice(0, 3);
        }""",
        [x, y],
    )


def test_a_picture_is_drawn_with_previews_and_a_progress_that_moves(opened: Any) -> None:
    prompt = "a large red circle in the middle on a white background"
    draw(opened, prompt, Steps="6", Seed="7")
    expect(opened.get_by_alt_text("The drawing, not finished yet")).to_be_visible(timeout=SLOW)
    expect(opened.get_by_role("progressbar")).to_be_visible()
    picture = finished(opened, prompt)
    red, green, blue = colour(opened, picture, 0.5, 0.5)
    assert red > 150
    assert max(green, blue) < 100
    expect(opened.locator("#stage")).to_contain_text("seed 7")
