"""The hub through the gateway: found, examined, downloaded, paused, cancelled; and when it is not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hub_server import HubServer
from tests.runner.checkpoints import WEIGHTS, text_files
from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

NAME = "owner/name"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with HubServer() as server:
        yield server


@pytest.fixture
def gateway(hub: HubServer, machine: Path) -> Iterator[Gateway]:
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    with Gateway({"a": pretend_model(machine / "a")}, environment=environment, memory=2**30) as gateway:
        yield gateway


def state(gateway: Gateway) -> Any:
    return gateway.http.get("/hub/downloads").json()["downloads"]


def change(gateway: Gateway, path: str = "", model: str = NAME, **fields: Any) -> Any:
    return gateway.http.post(f"/hub/downloads{path}", json={"model": model, **fields})


def test_models_are_searched_with_what_the_hub_says_of_them(gateway: Gateway, hub: HubServer) -> None:
    hub.add(NAME, text_files(), tags=["license:mit", "gguf"], task="text-generation")
    hub.add("owner/drawer", {}, task="text-to-image", gated=True)
    found = gateway.http.get("/hub/search", params={"search": "NAME"}).json()["models"]
    assert [(one["name"], one["license"], one["gguf"], one["task"]) for one in found] == [
        (NAME, "mit", True, "text-generation")
    ]
    (drawer,) = gateway.http.get("/hub/search", params={"kind": "image"}).json()["models"]
    assert (drawer["name"], drawer["gated"]) == ("owner/drawer", True)


def test_a_model_is_examined_before_it_is_downloaded(gateway: Gateway, hub: HubServer) -> None:
    hub.add(NAME, text_files())
    fits = gateway.http.get("/hub/model", params={"model": NAME}).json()
    assert (fits["fits"], fits["mode"], fits["fault"]) == ("yes", "text", None)
    assert fits["bytes"] > 0
    assert "of 1.07 GB" in fits["why"]
    hub.add("owner/strange", text_files() | {"config.json": {"model_type": "nobody_knows"}})
    strange = gateway.http.get("/hub/model", params={"model": "owner/strange"}).json()
    assert strange["fits"] == "no"
    assert "nobody_knows" in strange["fault"]


def test_a_model_that_is_too_large_says_by_how_much(hub: HubServer, machine: Path) -> None:
    hub.add(NAME, text_files())
    environment = {"HF_ENDPOINT": hub.url, "HF_HUB_OFFLINE": "0"}
    with Gateway({"a": pretend_model(machine / "a")}, environment=environment, memory=2**20) as gateway:
        found = gateway.http.get("/hub/model", params={"model": NAME}).json()
    assert found["fits"] == "no"
    assert "quantization" in found["why"]


def test_a_model_is_downloaded_and_listed(gateway: Gateway, hub: HubServer) -> None:
    hub.add(NAME, text_files())
    assert change(gateway).status_code == 202
    gateway.wait_until(lambda: state(gateway)[0]["state"] == "done")
    (done,) = state(gateway)
    assert done["done"] == done["total"] > 0
    assert NAME in [model["name"] for model in gateway.http.get("/library").json()["models"]]
    assert change(gateway, "/cancel").status_code == 400


def test_a_download_is_paused_resumed_and_cancelled(gateway: Gateway, hub: HubServer, machine: Path) -> None:
    hub.add(NAME, text_files(WEIGHTS | {"more": ("U8", (12 * 1024**2,))}))
    hub.pause_after = 2 * 1024**2
    change(gateway)
    gateway.wait_until(lambda: state(gateway)[0]["done"] > 1024**2)
    hub.pause_after = None
    change(gateway, "/pause")
    gateway.wait_until(lambda: state(gateway)[0]["state"] in ("paused", "done"))
    if state(gateway)[0]["state"] == "paused":
        assert change(gateway, "/cancel").json()["state"] == "cancelled"
        assert not state(gateway)
        assert not list((machine / "home").rglob("*.incomplete"))
    change(gateway)
    gateway.wait_until(lambda: state(gateway)[0]["state"] == "done")


def test_what_fails_says_why_and_can_be_tried_again(gateway: Gateway, hub: HubServer) -> None:
    change(gateway)
    gateway.wait_until(lambda: state(gateway)[0]["state"] == "failed")
    assert NAME in state(gateway)[0]["error"]
    hub.add(NAME, text_files())
    change(gateway)
    gateway.wait_until(lambda: state(gateway)[0]["state"] == "done")


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("", {"model": "/etc/passwd"}, 400),
        ("", {"model": "../../x"}, 400),
        ("", {"model": "llama3:latest"}, 400),
        ("", {"model": ""}, 400),
        ("", {"model": 3}, 400),
        ("", {}, 400),
        ("", {"model": NAME, "fast": True}, 400),
        ("", {"model": "x" * 400}, 400),
        ("/pause", {"model": NAME}, 404),
        ("/cancel", {"model": NAME}, 404),
    ],
)
def test_requests_that_mean_nothing_are_refused(gateway: Gateway, path: str, body: Any, status: int) -> None:
    answer = gateway.http.post(f"/hub/downloads{path}", json=body)
    assert (answer.status_code, bool(answer.json()["error"])) == (status, True)
    assert not state(gateway)


@pytest.mark.parametrize("path", ["/hub/search?limit=0", "/hub/search?kind=sound", "/hub/search?search=" + "x" * 201, "/hub/model", "/hub/model?model=/etc"])  # fmt: skip
def test_queries_that_mean_nothing_are_refused(gateway: Gateway, path: str) -> None:
    assert gateway.http.get(path).status_code == 400


def test_without_the_hub_it_says_so(gateway: Gateway, hub: HubServer, machine: Path) -> None:
    hub.status = 500
    answer = gateway.http.get("/hub/search")
    assert (answer.status_code, "cannot be searched" in answer.json()["error"]) == (502, True)
    with Gateway({"a": machine / "a"}, environment={"HF_HUB_OFFLINE": "1"}) as offline:
        answer = offline.http.get("/hub/search")
        assert (answer.status_code, "HF_HUB_OFFLINE" in answer.json()["error"]) == (502, True)
