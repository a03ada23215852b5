"""The drawing board: previews, stopping, editing, what was drawn before."""

import io
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.runner.gateway.live import Gateway

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow
CIRCLE = "a large red circle in the middle on a white background"


def fill(page: Any, prompt: str, **fields: str) -> None:
    for label, value in {"Prompt": prompt, **fields}.items():
        page.get_by_label(label, exact=True).fill(value)


def draw(page: Any, prompt: str, **fields: str) -> None:
    fill(page, prompt, **fields)
    page.get_by_role("button", name="Draw", exact=True).click()


def finished(page: Any, prompt: str) -> Any:
    """The picture on the stage, once it is drawn."""
    picture = page.get_by_role("button", name=f"Enlarge: {prompt}")
    expect(picture).to_be_visible()
    return picture


def middle(picture: Any) -> str:
    """The colour in the middle of a picture on the page: the strongest of its three, or white."""
    red, green, blue = picture.locator("img").evaluate(
        """async (image) => {
            await image.decode();
            const canvas = document.createElement("canvas");
            canvas.width = canvas.height = 3;
            canvas.getContext("2d").drawImage(image, 0, 0, 3, 3);
            return [...canvas.getContext("2d").getImageData(1, 1, 1, 1).data].slice(0, 3);
        }"""
    )
    if min(red, green, blue) > 180:
        return "white"
    return max((red, "red"), (green, "green"), (blue, "blue"))[1]


def tab(page: Any, name: str) -> None:
    page.get_by_role("navigation").get_by_role("link", name=name).click()
    expect(page.get_by_role("heading", name=name, exact=True)).to_be_visible()


# What the page shows on the way, noted as it comes: it may be there for a blink.
NOTING = """() => {
    window.noted = { progress: [], previews: 0 };
    new MutationObserver(() => {
        const bar = document.querySelector('progress[aria-label="Progress"]');
        if (bar) window.noted.progress.push(bar.value);
        if (document.querySelector('img[alt="Preview of the unfinished picture"]')?.checkVisibility()) window.noted.previews++;
    }).observe(document.body, { subtree: true, childList: true, attributes: true });
}"""


def test_a_picture_is_drawn_with_previews_and_a_progress_that_moves(opened: Any) -> None:
    opened.evaluate(NOTING)
    draw(opened, CIRCLE, Steps="6", Seed="7")
    picture = finished(opened, CIRCLE)
    noted = opened.evaluate("window.noted")
    assert noted["previews"]
    progress = noted["progress"]
    drawing = progress[len(progress) - 1 - progress[::-1].index(0) :]  # the model was loaded before
    assert drawing == sorted(drawing)
    steps = {round(6 * value, 6) for value in drawing if 0 < value < 1}
    assert steps <= {1, 2, 3, 4, 5}
    assert len(steps) > 1
    assert middle(picture) == "red"
    expect(opened.locator("#stage")).to_contain_text("128 × 128, seed 7")


def test_a_drawing_is_stopped_in_the_middle_and_the_runner_with_it(opened: Any, gateway: Gateway) -> None:
    draw(opened, CIRCLE, Steps="900")
    expect(opened.locator("#stage")).to_contain_text("of 900, about")
    assert gateway.models()["shapes"]["active"] == 1
    opened.get_by_role("button", name="Stop", exact=True).click()
    expect(opened.locator("#stage")).to_contain_text("Stopped")
    gateway.wait_until(lambda: gateway.models()["shapes"]["active"] == 0)
    draw(opened, CIRCLE, Steps="1")
    finished(opened, CIRCLE)


def test_a_drawing_that_is_asked_for_before_the_models_are_known_begins_when_they_are(opened: Any) -> None:
    held: list[Any] = []
    opened.route("**/library", lambda route: held.append(route))
    opened.reload()
    draw(opened, CIRCLE, Seed="7")
    expect(opened.get_by_text("The list of models is still loading …")).to_be_visible()
    opened.get_by_role("button", name="Draw", exact=True).click()  # asks for no second one
    while held:
        held.pop().continue_()
    opened.unroute("**/library")
    finished(opened, CIRCLE)
    expect(opened.get_by_text("The list of models is still loading …")).to_be_hidden()
    expect(opened.get_by_role("button", name=f"Enlarge: {CIRCLE}")).to_have_count(1)


def test_a_picture_is_edited_in_words(opened: Any) -> None:
    draw(opened, CIRCLE, Seed="7")
    finished(opened, CIRCLE)
    opened.get_by_role("button", name="Edit this").click()
    expect(opened.get_by_alt_text("Input picture 1")).to_be_visible()
    expect(opened.get_by_label("Prompt", exact=True)).to_be_focused()
    draw(opened, "make the circle green", Seed="3")
    assert middle(finished(opened, "make the circle green")) == "green"


def test_a_picture_starts_from_another_with_the_given_strength(opened: Any, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "blue.png")
    opened.locator("#file").set_input_files(tmp_path / "blue.png")
    opened.get_by_label("Use the first one as a starting point instead of editing it").check()
    opened.get_by_label("Strength").fill("0.3")
    draw(opened, CIRCLE, Seed="7", Steps="8")
    finished(opened, CIRCLE).click()
    recipe = opened.get_by_role("dialog")
    expect(recipe).to_contain_text("Strength0.3")
    expect(recipe.get_by_alt_text("An input picture")).to_be_visible()


def test_a_mask_keeps_the_rest_of_the_picture(opened: Any, tmp_path: Path) -> None:
    Image.new("RGB", (128, 128), "blue").save(tmp_path / "blue.png")
    mask = Image.new("L", (128, 128))
    mask.paste(255, (0, 0, 128, 32))
    mask.save(tmp_path / "mask.png")
    expect(opened.get_by_role("button", name="Choose a mask")).to_be_hidden()
    opened.locator("#file").set_input_files(tmp_path / "blue.png")
    opened.locator("#mask-file").set_input_files({"name": "a.txt", "mimeType": "image/png", "buffer": b"no"})
    expect(opened.locator("#prompt-hint")).to_have_text("a.txt is not a readable picture.")
    opened.locator("#mask-file").set_input_files(tmp_path / "mask.png")
    expect(opened.get_by_alt_text("Mask", exact=True)).to_be_visible()
    draw(opened, CIRCLE, Seed="7", Steps="1")
    picture = finished(opened, CIRCLE)
    assert middle(picture) == "blue"
    picture.click()
    recipe = opened.get_by_role("dialog")
    expect(recipe.get_by_alt_text("The mask")).to_be_visible()
    recipe.get_by_role("button", name="Close").click()
    opened.get_by_role("button", name="Remove the mask").click()
    expect(opened.get_by_alt_text("Mask", exact=True)).to_be_hidden()
    opened.get_by_role("button", name="Remove picture 1").click()
    expect(opened.get_by_role("button", name="Choose a mask")).to_be_hidden()


def test_pictures_are_added_by_drop_and_paste_and_removed(opened: Any) -> None:
    give = """([place, event, kind]) => {
        const canvas = document.createElement("canvas");
        return new Promise((done) => canvas.toBlob((blob) => {
            const data = new DataTransfer();
            data.items.add(new File([blob], "a.png", { type: kind }));
            const how = { bubbles: true, cancelable: true };
            const made = event === "drop" ? new DragEvent("drop", { ...how, dataTransfer: data })
                                          : new ClipboardEvent("paste", { ...how, clipboardData: data });
            document.querySelector(place).dispatchEvent(made);
            done();
        }));
    }"""
    pictures = opened.get_by_role("list", name="Pictures to edit or start from").get_by_role("listitem")
    opened.evaluate(give, ["#drop", "drop", "image/png"])
    expect(pictures).to_have_count(1)
    opened.evaluate(give, ["#prompt", "paste", "image/png"])
    expect(pictures).to_have_count(2)
    opened.get_by_role("button", name="Remove picture 1").click()
    expect(pictures).to_have_count(1)


def test_a_file_that_is_not_a_picture_is_refused_in_a_sentence(opened: Any) -> None:
    opened.locator("#file").set_input_files({"name": "a.txt", "mimeType": "image/png", "buffer": b"no"})
    expect(opened.locator("#prompt-hint")).to_have_text("a.txt is not a readable picture.")


def test_again_is_the_same_and_vary_is_another(opened: Any) -> None:
    draw(opened, CIRCLE, Seed="11", Steps="1")
    finished(opened, CIRCLE)
    opened.get_by_role("button", name="Again").click()
    pictures = opened.get_by_role("list", name="Recent pictures").get_by_role("listitem")
    expect(pictures).to_have_count(2)
    opened.get_by_role("button", name="Vary").click()
    expect(pictures).to_have_count(3)
    files = """async () => {
        const images = [...document.querySelectorAll("#stage .strip img")];
        const canvas = (image) => { const made = document.createElement("canvas"); made.width = made.height = 128;
            made.getContext("2d").drawImage(image, 0, 0); return made.toDataURL(); };
        await Promise.all(images.map((image) => image.decode()));
        return images.map(canvas);
    }"""
    varied, again, first = opened.evaluate(files)
    assert again == first
    assert varied != first


def test_several_pictures_of_one_drawing_are_shown_in_turn(opened: Any) -> None:
    draw(opened, CIRCLE, Pictures="3", Steps="1")
    finished(opened, CIRCLE)
    third = opened.get_by_role("button", name="Picture 3")
    third.click()
    expect(opened.get_by_role("button", name="Picture 3")).to_have_attribute("aria-pressed", "true")
    finished(opened, CIRCLE).click()
    expect(opened.get_by_role("dialog")).to_contain_text("3 of 3")
    opened.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(opened.get_by_role("button", name="Picture 3")).to_have_count(0)
    expect(opened.get_by_role("button", name="Picture 2")).to_have_attribute("aria-pressed", "true")


def test_the_gallery_keeps_pictures_and_their_recipes_until_they_are_deleted(opened: Any) -> None:
    draw(opened, CIRCLE, Seed="7", Steps="1")
    finished(opened, CIRCLE)
    opened.reload()
    tab(opened, "Gallery")
    opened.get_by_label("Search prompts").fill("nothing like it")
    expect(opened.locator("#gallery-note")).to_have_text("No prompts match.")
    opened.get_by_label("Search prompts").fill("RED")
    opened.get_by_role("button", name=CIRCLE).click()
    recipe = opened.get_by_role("dialog", name="Recipe")
    expect(recipe).to_contain_text("Seed7")
    with opened.expect_download() as downloading:
        recipe.get_by_role("button", name="Download").click()
    assert (
        downloading.value.suggested_filename == "a-large-red-circle-in-the-middle-on-a-white-background-7.png"
    )
    picture = Image.open(io.BytesIO(Path(downloading.value.path()).read_bytes()))
    assert picture.size == (128, 128)
    assert CIRCLE in picture.info["parameters"]
    recipe.get_by_role("button", name="Edit this").click()
    expect(opened.get_by_label("Prompt", exact=True)).to_be_focused()
    expect(opened.get_by_alt_text("Input picture 1")).to_be_visible()
    tab(opened, "Gallery")
    opened.get_by_role("button", name=CIRCLE).click()
    recipe.get_by_role("button", name="Delete").click()
    expect(opened.locator("#gallery-note")).to_contain_text("No prompts match")
    opened.get_by_role("button", name="Undo").click()
    expect(opened.get_by_role("button", name=CIRCLE)).to_have_count(1)
    expect(opened.locator("#undo")).to_be_hidden()


def test_what_one_tab_draws_is_in_the_gallery_of_another(opened: Any) -> None:
    other = opened.context.new_page()
    other.goto(opened.url)
    tab(other, "Gallery")
    expect(other.locator("#gallery-note")).to_contain_text("No pictures yet")
    draw(opened, CIRCLE, Steps="1")
    expect(other.get_by_role("list").get_by_role("button", name=CIRCLE)).to_be_visible()


def test_a_refusal_is_a_sentence_and_drawing_goes_on(opened: Any) -> None:
    opened.get_by_label("Custom", exact=True).check()
    draw(opened, CIRCLE, Width="9000", Height="64", Steps="1")
    expect(opened.get_by_role("alert").filter(has_text="9000")).to_contain_text("4096")
    expect(opened.get_by_label("Width")).to_be_focused()
    expect(opened.get_by_label("Width")).to_have_attribute("aria-invalid", "true")
    fill(opened, CIRCLE, Width="64")
    opened.get_by_role("button", name="Draw", exact=True).click()
    finished(opened, CIRCLE)
    expect(opened.locator("#stage")).to_contain_text("64 × 64")


def test_what_the_gateway_says_of_a_parameter_stands_at_its_field(opened: Any) -> None:
    refusal = {"status": 400, "json": {"error": "steps: 3 is not allowed; this model needs an even number"}}
    opened.route("**/gallery/jobs", lambda route: route.fulfill(**refusal), times=1)
    draw(opened, CIRCLE, Steps="3")
    expect(opened.locator(".wrong")).to_have_text("Steps: 3 is not allowed; this model needs an even number.")
    expect(opened.get_by_label("Steps")).to_be_focused()
    expect(opened.locator("#stage")).to_contain_text("The picture was not drawn.")
    opened.get_by_label("Steps").fill("1")
    expect(opened.locator(".wrong")).to_have_count(0)


def test_a_random_seed_can_be_taken_and_cleared_again(opened: Any) -> None:
    seed = opened.get_by_label("Seed", exact=True)
    opened.get_by_role("button", name="New random seed").click()
    first = seed.input_value()
    assert 0 < int(first) < 2**32
    opened.get_by_role("button", name="New random seed").click()
    assert seed.input_value() != first
    opened.get_by_role("button", name="Clear the seed").click()
    assert seed.input_value() == ""


def test_the_queue_shows_what_waits_and_lets_it_go(opened: Any) -> None:
    draw(opened, CIRCLE, Steps="900")
    expect(opened.locator("#stage")).to_contain_text("of 900")
    for prompt in ("a blue ring", "a green star", "a yellow cross"):
        draw(opened, prompt, Steps="1")
    tab(opened, "Queue")
    rows = opened.locator("#queue ol").get_by_role("listitem")
    expect(rows).to_have_count(4)
    expect(rows.nth(1)).to_contain_text("Waiting")
    expect(rows.nth(3)).to_contain_text("Queued")
    expect(opened.locator("#queue")).to_contain_text("requests running")
    opened.get_by_role("button", name="Stop: a yellow cross").click()
    expect(rows).to_have_count(3)
    opened.get_by_role("button", name=f"Stop: {CIRCLE}").click()
    expect(opened.get_by_text("No jobs.")).to_be_visible()
    tab(opened, "Draw")
    expect(opened.get_by_role("list", name="Recent pictures").get_by_role("listitem")).to_have_count(2)
