"""The page in a real browser, over a real gateway that serves the sample."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.runner.gateway.live import Gateway
from tests.runner.live import ROOT
from tests.toys import toy_text, toy_vision
from tests.waiting import PATIENCE

SAMPLE = ROOT / "samples" / "shapes"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")


def chromium() -> str | None:
    """A Chromium of this machine's; CHROMIUM names another."""
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)


@pytest.fixture(scope="package")
def folders() -> dict[str, Path]:
    """`shapes` draws, `talk` writes about it, `toy` writes nonsense and finds no end; so does `sees`, about pictures."""
    return {"shapes": SAMPLE, "talk": SAMPLE / "text_encoder", "toy": toy_text(), "sees": toy_vision()}


@pytest.fixture(scope="package")
def gateway(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    with serving(folders, tmp_path_factory.mktemp("home")) as gateway:
        yield gateway


def serving(folders: dict[str, Path], home: Path, **settings: Any) -> Gateway:
    """Only these models, whatever else this machine has."""
    environment = {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "OLLAMA_MODELS": str(home / "store")}
    environment["XDG_STATE_HOME"] = str(home / "state")
    environment |= settings.pop("environment", {})
    how = {"pretend": False, "memory": 64 * 1024**3, "force": True}
    return Gateway(folders, environment=environment, **(how | settings))


@pytest.fixture(scope="package")
def browser() -> Iterator[Any]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed: --group page")
    program = chromium()
    if program is None:
        pytest.skip("no Chromium on this machine: apt install chromium, or name one in CHROMIUM")
    sync_api.expect.set_options(timeout=1000 * PATIENCE)  # five seconds, if nothing is said
    # Containers let nobody make the sandbox; nothing but our own page is opened.
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def opened(browser: Any, gateway: Gateway) -> Iterator[Any]:
    """The page, fresh, in a window of its own; what it complains about, or asks of others, fails the test."""
    from tests.page.window import Window

    gateway.http.delete("/gallery")
    with Window(browser, gateway.url) as window:
        yield window.page
    assert not window.complaints
    assert not window.strangers
