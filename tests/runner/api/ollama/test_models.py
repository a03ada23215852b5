"""What the real ollama package learns of the models, and of the server itself."""

import re
from typing import Any

import pytest

from tests.runner.api.ollama.test_ollama import refused
from tests.runner.gateway.live import Gateway
from tests.toys import toy_text
from tests.waiting import PATIENCE

ollama = pytest.importorskip("ollama", reason="the clients group is not installed")


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return ollama.Client(host=gateway.url, timeout=PATIENCE)


def test_models_are_listed_by_the_names_that_clients_use(client: Any) -> None:
    entry = {model.model: model for model in client.list().models}
    assert set(entry) == {"toy", "plain", "klein"}
    assert entry["toy"].size > 0
    assert entry["toy"].details.family == "qwen3"
    assert entry["toy"].modified_at.year >= 2024
    digests = {model.digest for model in entry.values()}
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in digests)
    assert len(digests) == 3
    assert {model.digest for model in client.list().models} == digests


def test_a_model_is_shown_with_what_it_can_do(client: Any) -> None:
    toy = client.show("toy")
    assert toy.capabilities == ["completion", "tools", "thinking"]
    assert "messages" in toy.template
    assert toy.modelinfo["qwen3.context_length"] > 0
    assert toy.modelinfo["general.basename"] == "toy"
    assert toy.details.parameter_size
    assert client.show("plain").capabilities == ["completion"]
    assert client.show("klein").capabilities == ["image"]
    assert client.show("toy:latest").capabilities == toy.capabilities
    refused(lambda: client.show("nobody"), "not found", 404)


def test_both_apis_tell_which_parameters_have_an_effect_on_a_picture_model(gateway: Gateway) -> None:
    shown = gateway.http.post("/api/show", json={"model": "klein"}).json()
    listed = gateway.http.get("/v1/models/klein").json()
    for klein in (shown, listed):
        assert klein["capabilities"] == ["image"]
        assert {"steps", "strength"} < set(klein["supported_parameters"])
        assert "cfg_truncation" not in klein["supported_parameters"]
        assert klein["max_references"] == 10
    toy = gateway.http.get("/v1/models/toy").json()
    assert toy["capabilities"] == ["completion", "tools", "thinking"]
    assert "supported_parameters" not in toy


def test_what_is_loaded_is_listed_until_it_is_unloaded(client: Any) -> None:
    assert client.generate("plain", keep_alive="1h").done_reason == "load"
    (response,) = [model for model in client.ps().models if model.model == "plain"]
    assert response.size > 0
    assert response.context_length > 0
    assert response.expires_at is not None
    assert client.generate("plain", keep_alive=0).done_reason == "unload"
    assert "plain" not in {model.model for model in client.ps().models}
    answer = client.chat("plain", messages=[])
    assert (answer.done_reason, answer.message.role) == ("load", "assistant")


def test_the_version_is_one_that_clients_can_compare(gateway: Gateway) -> None:
    answer = gateway.http.get("/api/version").json()["version"]
    assert tuple(map(int, answer.split("."))) >= (0, 14, 3)


def test_clients_that_look_whether_a_server_is_there_see_one(gateway: Gateway) -> None:
    for sent in ({"Sec-Fetch-Mode": "cors"}, {"Accept": "application/json, text/plain, */*"}):
        answer = gateway.http.get("/", headers=sent)
        assert (answer.status_code, answer.text) == (200, "Ollama is running")
    assert gateway.http.head("/").status_code == 200


def test_models_are_not_published_here(client: Any) -> None:
    refused(lambda: client.push("mine"), "cannot be published")


def test_a_gateway_with_a_key_is_reached_by_the_variable_that_the_client_reads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Gateway({"a": toy_text()}, keys=["secret"]) as gateway:
        monkeypatch.delenv("OLLAMA_API_KEY", raising=False)
        refused(ollama.Client(host=gateway.url).list, "needs its API key", 401)
        monkeypatch.setenv("OLLAMA_API_KEY", "secret")
        assert [model.model for model in ollama.Client(host=gateway.url).list().models] == ["a"]
