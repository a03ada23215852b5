"""Models on the page: searched on the hub, examined, downloaded, deleted; and a hub that is not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import HubServer
from tests.page.conftest import serving
from tests.page.test_drawing import tab
from tests.page.window import Window, check
from tests.runner.checkpoints import text_files

expect = pytest.importorskip("playwright.sync_api", reason="playwright is not installed").expect
pytestmark = pytest.mark.slow


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        server.add("owner/small", text_files(), tags=["license:mit"], task="text-generation")
        server.add("owner/strange", text_files() | {"config.json": {"model_type": "nobody_knows"}})
        yield server


@pytest.fixture
def page(browser: Any, folders: dict[str, Path], tmp_path: Path, hub: HubServer) -> Iterator[Any]:
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    with (
        serving(folders, tmp_path, environment=environment) as gateway,
        Window(browser, gateway.url, bypass_csp=True) as window,
    ):
        tab(window.page, "Models")
        yield window.page
    assert not window.complaints


def search(page: Any, text: str) -> None:
    page.get_by_label("Search the hub").fill(text)
    page.get_by_role("button", name="Search", exact=True).click()


def test_a_model_is_searched_examined_downloaded_and_deleted(page: Any) -> None:
    search(page, "owner")
    found = page.locator("#hub-found li")
    expect(found).to_have_count(2)
    expect(found.first).to_contain_text("licence mit")
    found.last.locator("summary").click()
    expect(found.last).to_contain_text("nobody_knows")
    expect(found.last.get_by_role("button")).to_have_count(0)
    found.first.locator("summary").click()
    expect(found.first).to_contain_text("It takes about")
    check(page, "the hub")
    page.get_by_role("button", name="Download owner/small").click()
    expect(page.locator("#downloads")).to_contain_text("complete")
    page.get_by_role("button", name="Delete owner/small").click()
    page.get_by_role("button", name="Do not delete owner/small").click()
    page.get_by_role("button", name="Delete owner/small").click()
    page.get_by_role("button", name="Really delete owner/small").click()
    expect(page.get_by_role("button", name="Chat with owner/small")).to_have_count(0)


def test_a_hub_that_fails_is_a_sentence(page: Any, hub: HubServer) -> None:
    hub.status = 500
    search(page, "owner")
    expect(page.locator("#hub-found").get_by_role("alert")).to_contain_text("cannot be searched")


def test_a_loaded_model_can_be_kept(page: Any) -> None:
    page.get_by_role("button", name="Load talk", exact=True).click()
    page.get_by_role("button", name="Keep talk").click()
    row = page.locator("#models li").filter(has_text="stays until its memory is needed")
    expect(row).to_have_count(1)
    row.get_by_role("button", name="Unload talk").click()
    expect(page.get_by_role("button", name="Load talk", exact=True)).to_be_visible()
