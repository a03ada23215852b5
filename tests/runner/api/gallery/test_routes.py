"""The gallery over HTTP: drawings that go on by themselves, what they leave, and requests that are refused."""

import base64
import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

SIZE = {"width": 64, "height": 64, "steps": 1}


def start(gateway: Gateway, **body: Any) -> Any:
    answer = gateway.http.post("/gallery/jobs", json={"model": "klein", "prompt": "a cat", **SIZE, **body})
    assert answer.status_code == 202, answer.text
    return answer.json()


def job(gateway: Gateway, id: str) -> Any:
    return next(one for one in gateway.http.get("/gallery/jobs").json()["jobs"] if one["id"] == id)


def ended(gateway: Gateway, id: str) -> Any:
    gateway.wait_until(lambda: job(gateway, id)["state"] in ("done", "failed", "stopped"))
    return job(gateway, id)


@pytest.fixture(autouse=True)
def empty(request: pytest.FixtureRequest) -> None:
    if "gateway" in request.fixturenames:
        request.getfixturevalue("gateway").http.delete("/gallery")


def test_a_drawing_goes_on_by_itself_and_its_pictures_are_kept(gateway: Gateway) -> None:
    file = io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(file, "PNG")
    image = base64.b64encode(file.getvalue()).decode()
    seed = 2**64 - 1
    begun = start(gateway, n=2, seed=seed, images=[image], previews=1)
    assert begun["state"] in ("queued", "waiting")
    over = ended(gateway, begun["id"])
    assert (over["state"], over["inputs"], "preview" in over) == ("done", 1, False)
    found = gateway.http.get("/gallery").json()
    assert found["pictures"] == over["pictures"]
    assert (found["total"], found["more"]) == (2, False)
    first, second = found["pictures"]
    assert (first["index"], second["index"], first["batch"]) == (0, 1, second["batch"])
    assert first["recipe"]["seed"] == str(seed)
    assert (first["recipe"]["prompt"], first["steps"], first["width"]) == ("a cat", 1, 64)
    picture = gateway.http.get(f"/gallery/{first['id']}/picture")
    assert (picture.headers["content-type"], len(picture.content)) == ("image/png", first["bytes"])
    assert Image.open(io.BytesIO(picture.content)).size == (64, 64)
    assert "sandbox" in picture.headers["content-security-policy"]
    assert gateway.http.get(f"/gallery/{first['id']}/thumbnail").headers["content-type"] == "image/webp"
    (reference,) = first["references"]
    given = gateway.http.get(f"/gallery/inputs/{reference}")
    assert (given.headers["content-type"], given.content) == ("image/png", file.getvalue())
    packed = zipfile.ZipFile(io.BytesIO(gateway.http.get("/gallery/zip").content))
    assert packed.testzip() is None
    assert {packed.read(name) for name in packed.namelist()} == {
        gateway.http.get(f"/gallery/{one['id']}/picture").content for one in found["pictures"]
    }


def test_pictures_are_marked_deleted_and_restored(gateway: Gateway) -> None:
    (picture,) = ended(gateway, start(gateway)["id"])["pictures"]
    place = f"/gallery/{picture['id']}"
    assert gateway.http.post(place, json={"favourite": True}).json()["favourite"]
    assert gateway.http.get("/gallery", params={"favourites": "true"}).json()["total"] == 1
    gateway.http.post(place, json={"deleted": True})
    assert gateway.http.get(place).status_code == 404
    gateway.http.post(place, json={"deleted": False})
    assert gateway.http.get(place).json()["favourite"]
    assert gateway.http.delete(place).json() == {"removed": True}
    assert gateway.http.delete(place).status_code == 404
    assert gateway.http.get("/gallery/zip").status_code == 404


def test_a_drawing_is_followed_and_stopped(gateway: Gateway) -> None:
    id = start(gateway, steps=900)["id"]
    states = []
    with gateway.http.stream("GET", "/gallery/jobs/events") as stream:
        for line in stream.iter_lines():
            event = json.loads(line)
            one = next(one for one in event.get("jobs") or [event["job"]] if one["id"] == id)
            states.append(one["state"])
            if one["step"]:
                break
    assert states[-1] == "working"
    assert gateway.http.delete(f"/gallery/jobs/{id}").status_code == 200
    assert ended(gateway, id)["state"] == "stopped"
    assert gateway.http.get("/gallery").json()["total"] == 0
    assert gateway.http.delete(f"/gallery/jobs/{id}").json()["state"] == "stopped"


def test_what_waits_for_its_turn_can_be_stopped(gateway: Gateway) -> None:
    running = [start(gateway, steps=900)["id"] for _ in range(2)]
    waiting = start(gateway)["id"]
    assert job(gateway, waiting)["state"] == "queued"
    for id in (waiting, *running):
        gateway.http.delete(f"/gallery/jobs/{id}")
    assert {ended(gateway, id)["state"] for id in (waiting, *running)} == {"stopped"}


def test_what_the_model_refuses_is_in_the_jobs_state(gateway: Gateway) -> None:
    over = ended(gateway, start(gateway, images=["bm8="])["id"])
    assert (over["state"], over["status"]) == ("failed", 400)
    assert "images[0]" in over["error"]


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"{", 400, "JSON"),
        (b"[]", 400, "object"),
        ({"prompt": "x"}, 400, "model is missing"),
        ({"model": 3, "prompt": "x"}, 400, "model is missing"),
        ({"model": "klein"}, 400, "prompt is missing"),
        ({"model": "klein", "prompt": "x", "width": 10**9}, 400, "width"),
        ({"model": "klein", "prompt": "x", "n": 40}, 400, "n: 40"),
        ({"model": "klein", "prompt": "x", "images": ["x"] * 999}, 400, "images"),
        ({"model": "toy", "prompt": "x"}, 400, "writes text"),
        ({"model": "/etc", "prompt": "x"}, 404, "/etc"),
        ({"model": "../../x", "prompt": "x"}, 404, "../../x"),
    ],
)
def test_a_drawing_that_cannot_be_is_refused_at_once(
    gateway: Gateway, body: Any, status: int, said: str
) -> None:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = gateway.http.post("/gallery/jobs", content=content)
    assert answer.status_code == status, answer.text
    assert said in answer.json()["error"]


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/gallery?limit=0", 400),
        ("/gallery?limit=x", 400),
        ("/gallery?favourites=perhaps", 400),
        ("/gallery?search=" + "x" * 1001, 400),
        ("/gallery/nothing", 404),
        ("/gallery/nothing/picture", 404),
        ("/gallery/nothing/thumbnail", 404),
        ("/gallery/inputs/gallery.db", 404),
        ("/gallery/inputs/..%2Fgallery.db", 404),
        ("/gallery/..%2Fgallery.db/picture", 404),
    ],
)
def test_paths_and_queries_that_mean_nothing_are_refused(gateway: Gateway, path: str, status: int) -> None:
    answer = gateway.http.get(path)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)


@pytest.mark.parametrize("body", ["[]", "{", '{"favourite": 3}', '{"name": "x"}'])
def test_changes_that_are_none_are_refused(gateway: Gateway, body: str) -> None:
    assert gateway.http.post("/gallery/nothing", content=body).status_code == 400


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return pretend_model(tmp_path / "a")


def test_without_a_gallery_all_of_it_says_so(folder: Path) -> None:
    with Gateway({"a": folder}, gallery=False) as gateway:
        for path in ("/gallery", "/gallery/x", "/gallery/zip", "/gallery/jobs/events"):
            answer = gateway.http.get(path)
            assert (answer.status_code, "--no-gallery" in answer.json()["error"]) == (404, True)
        assert gateway.http.post("/gallery/jobs", json={}).status_code == 404
        assert gateway.http.get("/page/parameters.json").json()["gallery"] is False


def test_a_stream_of_drawings_does_not_keep_the_gateway(folder: Path) -> None:
    with Gateway({"a": folder}) as gateway, gateway.http.stream("GET", "/gallery/jobs/events") as stream:
        lines: Iterator[str] = stream.iter_lines()
        assert json.loads(next(lines)) == {"jobs": []}
        assert gateway.stop() == 0


def test_each_key_has_a_gallery_of_its_own_and_there_is_none_without(folder: Path) -> None:
    with Gateway({"a": folder}, keys=["one", "two"]) as gateway:
        assert gateway.http.get("/gallery").status_code == 401
        assert gateway.http.get("/gallery/x/picture").status_code == 401
        answer = gateway.http.get("/gallery", headers={"Authorization": "Bearer two"})
        assert (answer.status_code, answer.json()["total"]) == (200, 0)
