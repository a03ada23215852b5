"""The form is made of the parameters that the gateway describes."""

import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from models.checkpoint.safetensors import read_header
from pipelines.limits import MOST_STEPS
from tests.page.conftest import SAMPLE, serving
from tests.page.test_drawing import CIRCLE, draw, finished, tab
from tests.page.window import Window
from tests.runner.checkpoints import image_files, safetensors, write
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
from dataclasses import replace
from pipelines import PIPELINES
PIPELINES["Flux2KleinPipeline"] = replace(PIPELINES["Flux2KleinPipeline"], supported_params=("tiling",))
"""


@pytest.fixture(scope="module")
def with_tiling(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A gateway, and runners, with one parameter more, which has an effect on FLUX.2 klein."""
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
        page.on(
            "request",
            lambda one: (
                sent.append(one.post_data_json)
                if one.method == "POST" and "/gallery/jobs" in one.url
                else None
            ),
        )
        page.get_by_text("More options").click()
        tiling = page.get_by_label("Tiling")
        expect(tiling).not_to_be_checked()
        tiling.check()
        draw(page, CIRCLE, Seed="7", Steps="1")
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
        assert [one["tiling"] for one in sent] == [True, True]
    assert not window.complaints


@pytest.fixture(scope="module")
def families(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """A distilled model, one that is guided, and one that looks at no pictures."""
    home = tmp_path_factory.mktemp("home")
    base = Path(shutil.copytree(SAMPLE, home / "base"))
    index = json.loads((base / "model_index.json").read_text())
    (base / "model_index.json").write_text(json.dumps(index | {"is_distilled": False}))
    z_image = write(home / "z-image", image_files("ZImagePipeline"))
    write(home / "loras", {"ink.safetensors": adapter(), "wash.safetensors": adapter()})
    models = {"shapes": SAMPLE, "base": base, "z-image": z_image}
    with serving(models, home, loras=str(home / "loras")) as gateway:
        yield gateway


def adapter() -> bytes:
    """An adapter of the sample, which changes nothing."""
    layer = "single_transformer_blocks.0.attn.to_out"
    weights = SAMPLE / "transformer" / "diffusion_pytorch_model.safetensors"
    outputs, inputs = read_header(weights).tensors[f"{layer}.weight"].shape
    shapes = {"lora_A": (2, inputs), "lora_B": (outputs, 2)}
    return safetensors(
        {f"transformer.{layer}.{name}.weight": ("F32", shape) for name, shape in shapes.items()}
    )


@pytest.fixture
def form(browser: Any, families: Gateway) -> Iterator[Any]:
    with Window(browser, families.url) as window:
        yield window.page
    assert not window.complaints


def test_the_form_has_what_has_an_effect_on_the_model(form: Any) -> None:
    model, more = form.locator("#draw-model"), form.get_by_text("More options")
    model.select_option("shapes")
    more.click()
    expect(form.get_by_label("LoRAs")).to_be_visible()
    expect(form.get_by_label("Guidance", exact=True)).to_be_hidden()
    model.select_option("base")
    for label, shown in (("Negative prompt", True), ("Guidance", True), ("CFG truncation", False)):
        expect(form.get_by_label(label, exact=True)).to_be_visible(visible=shown)
    form.get_by_label("Guidance", exact=True).fill("2")
    model.select_option("z-image")
    expect(form.get_by_label("Guidance", exact=True)).to_have_value("2")
    expect(form.get_by_label("CFG truncation")).to_be_visible()
    sent: list[dict[str, Any]] = []
    form.on(
        "request",
        lambda one: (
            sent.append(one.post_data_json) if one.method == "POST" and "/gallery/jobs" in one.url else None
        ),
    )
    for name in ("base", "shapes"):
        model.select_option(name)
        draw(form, CIRCLE, Steps="1")
        finished(form, CIRCLE)
        expect(form.locator("#stage")).not_to_contain_text("no effect")
    assert [one.get("guidance") for one in sent] == [2, None]


def test_adapters_are_written_with_commas_and_come_back_with_the_recipe(form: Any) -> None:
    sent: list[dict[str, Any]] = []
    form.on(
        "request",
        lambda one: (
            sent.append(one.post_data_json) if one.method == "POST" and "/gallery/jobs" in one.url else None
        ),
    )
    form.locator("#draw-model").select_option("shapes")
    form.get_by_text("More options").click()
    loras = form.get_by_label("LoRAs")
    loras.fill(" ink:0.5,wash ")
    draw(form, CIRCLE, Steps="1")
    finished(form, CIRCLE).click()
    recipe = form.get_by_role("dialog", name="Recipe")
    expect(recipe).to_contain_text("LoRAsink:0.5, wash")
    loras.evaluate("field => field.value = ''")
    recipe.get_by_role("button", name="Again").click()
    expect(loras).to_have_value("ink:0.5, wash")
    finished(form, CIRCLE)
    assert [one["loras"] for one in sent] == [
        [{"name": "ink", "scale": 0.5}, {"name": "wash", "scale": 1}]
    ] * 2


def test_several_seeds_and_variations_are_asked_for_and_each_picture_has_its_own(form: Any) -> None:
    sent: list[dict[str, Any]] = []
    form.on(
        "request",
        lambda one: (
            sent.append(one.post_data_json) if one.method == "POST" and "/gallery/jobs" in one.url else None
        ),
    )
    form.locator("#draw-model").select_option("shapes")
    form.get_by_text("More options").click()
    seeds, variations = form.get_by_label("Seeds"), form.get_by_label("Variations")
    seeds.fill("5, x")
    draw(form, CIRCLE, Steps="1")
    expect(form.get_by_text("Seeds: x is not allowed")).to_be_visible()
    seeds.fill("5, 6")
    variations.fill("7:0.2")
    draw(form, CIRCLE, Steps="1")
    finished(form, CIRCLE).first.click()
    recipe = form.get_by_role("dialog", name="Recipe")
    expect(recipe).to_contain_text("Variations7:0.2")
    expect(recipe).not_to_contain_text("Seeds")
    assert [(one["seeds"], one["variations"]) for one in sent] == [([5, 6], [{"seed": 7, "strength": 0.2}])]


def test_a_model_that_looks_at_no_pictures_starts_from_one(form: Any, tmp_path: Path) -> None:
    for colour in ("blue", "red"):
        Image.new("RGB", (128, 128), colour).save(tmp_path / f"{colour}.png")
    start = form.get_by_label("Use the first one as a starting point instead of editing it")
    form.locator("#draw-model").select_option("shapes")
    form.locator("#file").set_input_files(tmp_path / "blue.png")
    expect(form.get_by_text("Pictures to edit or start from")).to_be_visible()
    expect(start).to_be_visible()
    expect(form.get_by_label("Strength")).to_be_hidden()
    form.locator("#draw-model").select_option("z-image")
    expect(form.get_by_text("Picture to start from", exact=True)).to_be_visible()
    expect(start).to_be_hidden()
    expect(form.get_by_label("Strength")).to_be_visible()
    form.locator("#file").set_input_files(tmp_path / "red.png")
    expect(form.locator("#prompt-hint")).to_have_text("This model takes at most 1 input picture.")


def test_the_limits_of_the_parameters_hold_in_the_form(form: Any) -> None:
    form.locator("#draw-model").select_option("base")
    fault = form.locator(".wrong")
    draw(form, CIRCLE, Steps=str(MOST_STEPS + 1))
    expect(fault).to_have_text(
        f"Steps: {MOST_STEPS + 1} is not allowed; a whole number from 0 to {MOST_STEPS} is needed."
    )
    expect(form.get_by_label("Steps")).to_be_focused()
    draw(form, CIRCLE, Steps="1.5")
    expect(fault).to_contain_text("Steps: 1.5 is not allowed")
    draw(form, CIRCLE, Steps="", Pictures="17")
    expect(fault).to_contain_text("a whole number from 1 to 16 is needed")
    form.get_by_text("More options").click()
    form.get_by_label("Guidance", exact=True).fill("much")
    form.get_by_text("More options").click()
    draw(form, CIRCLE, Pictures="1", Steps="1")
    expect(fault).to_have_text("Guidance: much is not allowed; a number from 0 to 100 is needed.")
    expect(form.get_by_label("Guidance", exact=True)).to_be_focused()
    form.get_by_label("Guidance", exact=True).fill("")
    form.get_by_role("button", name="Draw", exact=True).click()
    finished(form, CIRCLE)
    expect(fault).to_be_hidden()


def test_a_picture_of_an_earlier_version_keeps_its_recipe(
    browser: Any, folders: dict[str, Path], tmp_path: Path
) -> None:
    with serving(folders, tmp_path, gallery=False) as gateway, Window(browser, gateway.url) as window:
        opened = window.page
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
    assert not window.complaints
