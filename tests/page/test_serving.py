"""How the gateway hands out the page, and what the page says of itself before a browser reads it."""

import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from runner.api.page import FOLDER, TYPES
from tests.page.conftest import serving
from tests.runner.gateway.live import Gateway
from tests.runner.live import ROOT

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
FILES = sorted(path for path in FOLDER.iterdir())


@pytest.mark.parametrize("accept", [BROWSER, "text/html", "*/*"])
def test_people_get_the_page_under_a_strict_policy(gateway: Gateway, accept: str) -> None:
    answer = gateway.http.get("/", headers={"Accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(
        part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";")
    )
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == policy["form-action"] == "'none'"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"


@pytest.mark.parametrize(
    "sent",
    [
        {"Accept": "application/json"},
        {"Accept": "application/json, text/plain, */*"},
        {"Accept": "*/*", "Sec-Fetch-Mode": "cors"},
        {"Accept": "*/*", "User-Agent": "ollama-python/0.6.3"},
    ],
    ids=["json", "axios", "fetch", "ollama"],
)
def test_programs_that_want_no_page_get_none(gateway: Gateway, sent: dict[str, str]) -> None:
    answer = gateway.http.get("/", headers=sent)
    assert "html" not in answer.headers["content-type"]


def test_all_that_the_page_names_is_there_and_is_asked_for_again_only_when_it_changed(
    gateway: Gateway,
) -> None:
    page = gateway.http.get("/", headers={"Accept": BROWSER}).text
    named = set(re.findall(r'(?:href|src)="(page/[^"]+)"', page))
    named |= {
        f"page/{module}" for path in FILES for module in re.findall(r'from "\./([\w.]+)"', path.read_text())
    }
    assert len(named) > 15
    for name in named:
        answer = gateway.http.get(f"/{name}")
        assert answer.status_code == 200, name
        assert answer.headers["content-type"] == TYPES[Path(name).suffix]
        again = gateway.http.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize("name", ["nothing.js", "..%2Fcli.py", "%2e%2e%2fcli.py", "INDEX.HTML"])
def test_nothing_else_can_be_reached_under_the_pages_path(gateway: Gateway, name: str) -> None:
    answer = gateway.http.get(f"/page/{name}")
    assert answer.status_code == 404
    assert "import" not in answer.text


def test_the_page_needs_no_key_and_what_it_calls_does(folders: dict[str, Path], tmp_path: Path) -> None:
    with serving(folders, tmp_path, keys=["secret"]) as gateway:
        assert gateway.http.get("/", headers={"Accept": BROWSER}).status_code == 200
        assert gateway.http.get("/page/main.js").status_code == 200
        assert gateway.http.get("/library").status_code == 401
        assert gateway.http.get("/models").status_code == 401
        assert gateway.http.get("/library", headers={"Authorization": "Bearer secret"}).status_code == 200


def test_the_library_tells_what_each_model_does(gateway: Gateway) -> None:
    found = {model["name"]: model for model in gateway.http.get("/library").json()["models"]}
    assert set(found) == {"shapes", "talk", "toy", "sees"}
    assert found["shapes"]["mode"] == "image"
    assert found["shapes"]["side"] == 128
    assert found["talk"]["mode"] == "text"
    assert {name: model["sample"] for name, model in found.items()} == {
        "shapes": True,
        "talk": True,
        "toy": False,
        "sees": False,
    }
    assert "completion" in found["talk"]["capabilities"]
    assert all(model["fault"] is None and model["bytes"] > 0 for model in found.values())


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_no_file_names_another_host_or_makes_markup_of_text(path: Path) -> None:
    text = path.read_text()
    hosts = set(re.findall(r"https?://([\w.-]+)", text)) - {"www.w3.org"}  # the namespace of SVG
    assert not hosts
    assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|new Function", text)
    assert not re.search(r"<style|\sstyle=|\son\w+=", text)
    assert len(text.splitlines()) < 300


@pytest.mark.slow
def test_a_wheel_has_the_page(tmp_path: Path) -> None:
    if shutil.which("uv") is None:
        pytest.skip("uv, which builds wheels here, is not installed")
    built = subprocess.run(
        ["uv", "build", "--quiet", "--wheel", "--out-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    inside = set(zipfile.ZipFile(wheel).namelist())
    assert {f"runner/web/{path.name}" for path in FILES} <= inside
