"""What clients of llama-server, vLLM and LM Studio read of a server and its models; requests without a model or /v1."""

from pathlib import Path
from typing import Any

import pytest

from tests.runner.gateway.live import Gateway
from tests.runner.pretend import pretend_model

SEA: Any = [{"role": "user", "content": "The sea"}]


def test_models_have_the_names_that_clients_read_and_are_filtered(gateway: Gateway) -> None:
    models = {model["id"]: model for model in gateway.http.get("/v1/models").json()["data"]}
    toy = models["toy"]
    assert toy["context_length"] == toy["max_context_length"] == toy["max_model_len"] == 4096
    assert (toy["type"], models["klein"]["type"], toy["quantization"]) == ("llm", "image", "F32")
    assert "context_length" not in models["klein"]

    def listed(query: str) -> set[str]:
        return {model["id"] for model in gateway.http.get(f"/v1/models?{query}").json()["data"]}

    assert listed("type=image") == {"klein"}
    assert listed("type=llm") == {"toy", "plain"}
    assert listed("capability=tools") == {"toy"}
    refused = gateway.http.get("/v1/models?type=sound")
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "type")


def test_a_loaded_model_shows_its_properties(gateway: Gateway) -> None:
    gateway.http.post("/models/load", json={"model": "toy"}).raise_for_status()
    props = gateway.http.get("/props?model=toy").json()
    assert props["default_generation_settings"] == {"n_ctx": 4096}
    assert (props["model_alias"], props["total_slots"], props["modalities"]["vision"]) == ("toy", 64, False)
    assert "<|im_start|>" in props["chat_template"]
    slots = gateway.http.get("/slots?model=toy").json()
    assert [slot["id"] for slot in slots] == list(range(64))
    assert not any(slot["is_processing"] for slot in slots)
    info = gateway.http.get("/tokenizer_info?model=toy").json()
    assert info["chat_template"] == props["chat_template"]
    rendered = gateway.http.post("/apply-template", json={"model": "toy", "messages": SEA}).json()
    assert "The sea" in rendered["prompt"]
    for path in ("/props", "/slots", "/tokenizer_info"):
        refused = gateway.http.get(f"{path}?model=nobody")
        assert (refused.status_code, refused.json()["error"][:17]) == (404, "no language model")


def test_health_needs_no_key_and_the_version_is_told(tmp_path: Path) -> None:
    with Gateway({"a": pretend_model(tmp_path / "a")}, keys=["secret"]) as gateway:
        assert gateway.http.get("/health").json() == {"status": "ok"}
        assert gateway.http.get("/version").status_code == 401
    with Gateway({}) as gateway:
        assert gateway.http.get("/version").json()["version"]
        refused = gateway.http.get("/props")
        assert (refused.status_code, "no language model is loaded" in refused.json()["error"]) == (400, True)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": SEA}),
        ("/chat/completions", {"messages": SEA}),
        ("/completions", {"prompt": "x"}),
        ("/v1/messages", {"messages": SEA, "max_tokens": 9}),
        ("/completion", {"prompt": "x", "stream": False}),
    ],
)
def test_the_model_may_be_left_out_while_only_one_is_loaded(two: Gateway, path: str, body: Any) -> None:
    two.http.post("/models/stop", json={"model": "b"})
    two.wait_until(lambda: "b" not in two.models())
    two.http.post("/models/load", json={"model": "a"}).raise_for_status()
    assert two.http.post(path, json=body).status_code == 200
    two.http.post("/models/load", json={"model": "b"}).raise_for_status()
    refused = two.http.post(path, json=body)
    assert (refused.status_code, "model is missing" in refused.text) == (400, True)


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("two")
    with Gateway({name: pretend_model(folder / name) for name in "ab"}, memory=10**12) as gateway:
        yield gateway
