"""The form is made of the parameters that the gateway describes."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pipelines.limits import MOST_STEPS
from tests.page.conftest import SAMPLE, serving
from tests.page.test_drawing import CIRCLE, draw, finished, tab
from tests.page.window import Window
from tests.runner.gateway.live import Gateway
from tests.runner.live import ROOT

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow
# What each process of the gateway runs first.
CUSTOMIZE = f"""
import sys
sys.path.append({str(ROOT)!r})
from tests.runner.tiling import add_field
add_field()
"""


@pytest.fixture(scope="module")
def with_tiling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway, and runners, with one parameter more."""
    home = tmp_path_factory.mktemp("home")
    (home / "sitecustomize.py").write_text(CUSTOMIZE)
    with serving({"shapes": SAMPLE}, home, environment={"PYTHONPATH": str(home)}) as gateway:
        yield gateway


def test_a_new_parameter_is_a_control_is_sent_and_comes_back_with_its_recipe(
    browser: Any, with_tiling: Gateway
) -> None:
    with Window(browser, with_tiling.url) as window:
        page = window.page
        sent: list[dict[str, Any]] = []
        page.on("request", lambda one: sent.append(one.post_data_json) if "/completion" in one.url else None)
        page.get_by_text("More options").click()
        tiling = page.get_by_label("Tiling")
        expect(tiling).not_to_be_checked()
        tiling.check()
        draw(page, CIRCLE, Seed="7", Steps="1", Guidance="1.5")
        finished(page, CIRCLE).click()
        recipe = page.get_by_role("dialog", name="Recipe")
        expect(recipe).to_contain_text("Tilingyes")
        with page.expect_download() as downloading:
            recipe.get_by_role("button", name="Download").click()
        picture = Image.open(io.BytesIO(Path(downloading.value.path()).read_bytes()))
        assert json.loads(picture.info["diptych"])["tiling"] is True
        page.reload()
        tab(page, "Gallery")
        page.get_by_role("button", name=CIRCLE).click()
        recipe.get_by_role("button", name="Again").click()
        finished(page, CIRCLE)
        expect(tiling).to_be_checked()
        page.get_by_text("More options").click()
        expect(page.get_by_label("Guidance")).to_have_value("1.5")
        assert [one["tiling"] for one in sent] == [True, True]
        assert sent[0]["guidance"] == sent[1]["guidance"] == 1.5
    assert not window.complaints


def test_the_limits_of_the_parameters_hold_in_the_form(opened: Any) -> None:
    fault = opened.locator("#prompt-hint")
    draw(opened, CIRCLE, Steps=str(MOST_STEPS + 1))
    expect(fault).to_have_text(
        f"Steps: {MOST_STEPS + 1} is not allowed; a whole number from 0 to {MOST_STEPS} is needed."
    )
    expect(opened.get_by_label("Steps")).to_be_focused()
    draw(opened, CIRCLE, Steps="1.5")
    expect(fault).to_contain_text("Steps: 1.5 is not allowed")
    draw(opened, CIRCLE, Steps="", Pictures="17")
    expect(fault).to_contain_text("a whole number from 1 to 16 is needed")
    opened.get_by_text("More options").click()
    opened.get_by_label("Guidance").fill("much")
    opened.get_by_text("More options").click()
    draw(opened, CIRCLE, Pictures="1", Steps="1")
    expect(fault).to_have_text("Guidance: much is not allowed; a number from 0 to 100 is needed.")
    expect(opened.get_by_label("Guidance")).to_be_focused()
    opened.get_by_label("Guidance").fill("")
    opened.get_by_role("button", name="Draw", exact=True).click()
    finished(opened, CIRCLE)
    expect(fault).to_be_hidden()


def test_a_picture_of_an_earlier_version_keeps_its_recipe(opened: Any) -> None:
    draw(opened, CIRCLE, Seed="7", Steps="1")
    finished(opened, CIRCLE)
    opened.evaluate(
        """() => new Promise((done) => {
            indexedDB.open("diptych", 1).onsuccess = ({ target }) => {
                const store = target.result.transaction("pictures", "readwrite").objectStore("pictures");
                store.getAll().onsuccess = ({ target: { result: [picture] } }) => {
                    const { negative_prompt, n, ...recipe } = picture.recipe;
                    const former = { ...picture, recipe: { ...recipe, negative: "a square", count: 2 } };
                    store.put(former).onsuccess = done;
                };
            };
        })"""
    )
    opened.reload()
    tab(opened, "Gallery")
    opened.get_by_role("button", name=CIRCLE).click()
    recipe = opened.get_by_role("dialog", name="Recipe")
    expect(recipe).to_contain_text("Negative prompta square")
    expect(recipe).to_contain_text("Picture1 of 2")
    recipe.get_by_role("button", name="Again").click()
    expect(opened.get_by_label("Pictures", exact=True)).to_have_value("2")
    finished(opened, CIRCLE)
