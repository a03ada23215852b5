"""Models made of others and of blobs, by the real ollama package."""

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests import ROOT
from tests.gguf_files import write_gguf
from tests.models.language.gguf.vision_files import GGUF_CASES, write_pair
from tests.runner.api.ollama.test_ollama import refused
from tests.runner.gateway.live import Gateway
from tests.runner.ollama_store import store_model
from tests.toys import toy_text
from tests.toys.gguf import toy_gguf
from tests.waiting import PATIENCE

ollama = pytest.importorskip("ollama", reason="the clients group is not installed")

ASK: Any = [{"role": "user", "content": "Why is the sea blue?"}]
OPTIONS: Any = {"seed": 3, "num_predict": 6}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("store")
    place = "registry.ollama.ai/library/stored/latest"
    store_model(root, place, toy_text(), params={"temperature": 0.1, "top_k": 3}, system="You are kind.")
    return root


@pytest.fixture(scope="module")
def gateway(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    home = tmp_path_factory.mktemp("home")
    environment = {"OLLAMA_MODELS": str(store), "HF_HOME": str(home), "HF_HUB_OFFLINE": "1", "DIPTYCH_CACHE": str(home)}  # fmt: skip
    with pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        with Gateway({"here": toy_text()}, pretend=False, memory=64 * 1024**3, force=True) as gateway:
            yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return ollama.Client(host=gateway.url, timeout=PATIENCE)


def chat(client: Any, model: str, **fields: Any) -> Any:
    return client.chat(model, **{"messages": ASK, "options": OPTIONS, **fields})


def test_a_model_is_made_of_one_of_the_store_with_texts_of_its_own(client: Any, gateway: Gateway) -> None:
    plain = chat(client, "stored")
    lines = [
        line.status
        for line in client.create(
            "mario",
            from_="stored",
            system="You are Mario from Super Mario Bros.",
            parameters={"temperature": 0, "stop": ["x"], "num_keep": 4},
            license=["Free.", "As in beer."],
            messages=[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "It's me!"}],
            stream=True,
        )
    ]
    assert (lines[0], lines[-2:]) == ("reading model metadata", ["writing manifest", "success"])
    assert any(line.startswith("using existing layer sha256:") for line in lines)
    shown = gateway.http.post("/api/show", json={"model": "mario"}).json()
    assert shown["system"] == "You are Mario from Super Mario Bros."
    assert shown["license"] == "Free.\nAs in beer."
    parameters = {line.split()[0] for line in shown["parameters"].splitlines()}
    assert parameters == {"temperature", "top_k", "stop", "num_keep"}, "those of the other model stay"
    longer = chat(client, "mario")
    assert longer.prompt_eval_count > plain.prompt_eval_count + 15, "the messages are part of the prompt"
    again = client.create("mario", from_="mario", system="Short.", stream=False)
    assert again.status == "success"
    assert chat(client, "mario").prompt_eval_count < longer.prompt_eval_count


def test_a_model_is_made_of_a_folder(client: Any, store: Path) -> None:
    assert client.create("taken", from_="here", system="Be brief.", stream=False).status == "success"
    assert client.show("taken").modelinfo["general.architecture"] == "qwen3"
    assert chat(client, "taken").eval_count == 6
    assert not list((store / "blobs").glob(".*")), "nothing half written stays"


def test_a_model_is_made_of_blobs(client: Any, gateway: Gateway, tmp_path: Path) -> None:
    gguf = toy_gguf(tmp_path / "toy.gguf")
    digest = client.create_blob(gguf)
    assert digest == f"sha256:{hashlib.sha256(gguf.read_bytes()).hexdigest()}"
    assert gateway.http.head(f"/api/blobs/{digest}").status_code == 200
    assert client.create("packed", files={"toy.gguf": digest}, stream=False).status == "success"
    assert client.show("packed").details.format == "gguf"
    files = {path.name: client.create_blob(path) for path in toy_text().iterdir()}
    assert client.create("fred", files=files, stream=False).status == "success"
    assert chat(client, "fred").eval_count == 6
    client.delete("fred")
    assert "fred" not in {model.model.split(":")[0] for model in client.list().models}


def test_a_model_that_sees_is_made_of_a_gguf_and_its_projector(client: Any, tmp_path: Path) -> None:
    described = json.loads((ROOT / "tests" / "models" / "references" / "vision.json").read_text())
    path = write_pair(tmp_path / "toy", GGUF_CASES["gemma3-gguf"], described["gemma3-gguf"])
    files = {one.name: client.create_blob(one) for one in path.parent.glob("*.gguf")}
    assert len(files) == 2
    assert client.create("seeing", files=files, stream=False).status == "success"
    assert "vision" in client.show("seeing").capabilities
    (tmp_path / "broken.gguf").write_bytes(path.read_bytes()[:100])
    broken = {"broken.gguf": client.create_blob(tmp_path / "broken.gguf")}
    refused(lambda: client.create("broken", files=broken, stream=False), r"^files: 'broken\.gguf': ")


def test_a_blob_is_what_its_digest_says(gateway: Gateway, store: Path) -> None:
    digest = f"sha256:{hashlib.sha256(b'the sea').hexdigest()}"
    assert gateway.http.head(f"/api/blobs/{digest}").status_code == 404
    wrong = gateway.http.post(f"/api/blobs/{digest}", content=b"the land")
    assert (wrong.status_code, "is not that of the content" in wrong.json()["error"]) == (400, True)
    assert gateway.http.post(f"/api/blobs/{digest}", content=b"the sea").status_code == 201
    assert gateway.http.head(f"/api/blobs/{digest}").status_code == 200
    strange = gateway.http.post("/api/blobs/sha256:..%2F..%2Fx", content=b"x")
    assert strange.status_code in (400, 404)
    assert not list((store / "blobs").glob(".*"))


def test_an_adapter_goes_beside_a_gguf(client: Any, tmp_path: Path) -> None:
    files = {"toy.gguf": client.create_blob(toy_gguf(tmp_path / "toy.gguf"))}
    entries = {"general.type": "adapter", "adapter.type": "lora", "general.architecture": "llama"}
    for rows, words in ((128, ""), (64, r"for blk\.0\.attn_q\.weight, which is")):
        matrices = {
            f"blk.0.attn_q.weight.lora_{letter}": ("F32", shape, np.ones(shape, np.float32).tobytes())
            for letter, shape in (("a", (2, 64)), ("b", (rows, 2)))
        }
        adapters = {"a.gguf": client.create_blob(write_gguf(tmp_path / "a.gguf", entries, matrices))}
        if words:
            refused(
                lambda: client.create("adapted", files=files, adapters=adapters, stream=False),  # noqa: B023
                words,
            )
        else:
            client.create("adapted", files=files, adapters=adapters, stream=False)
    assert "LoRA" in client.show("adapted").modelfile
    assert chat(client, "adapted").eval_count == 6
    refused(
        lambda: client.create(
            "wrong", files=files, adapters={"a.safetensors": files["toy.gguf"]}, stream=False
        ),
        r"^adapters: 'a\.safetensors' is not a GGUF",
    )


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"from_": "stored", "quantize": "q4_K_M"}, "quantize: 'q4_K_M' cannot be made here"),
        ({"from_": "stored", "adapters": {"a": "sha256:" + "0" * 64}}, "^adapters: "),
        ({"from_": "stored", "parameters": {"nonsense": 1}}, r"^parameters\.nonsense is not supported"),
        ({"from_": "stored", "parameters": {"temperature": "hot"}}, r"^parameters\.temperature: "),
        ({"files": {"../x.gguf": "sha256:" + "0" * 64}}, "is not a path inside a model"),
        ({"files": {"x.gguf": "sha256:" + "0" * 64}}, "does not exist; POST it to /api/blobs first"),
        ({"files": {"x.gguf": "../../etc/passwd"}}, "^digest: "),
        ({}, "^from: either it or files is needed"),
    ],
)
def test_what_cannot_be_made_is_refused_by_name(client: Any, fields: Any, words: str) -> None:
    refused(lambda: client.create("wrong", stream=False, **fields), words)


def test_a_model_that_could_not_be_run_is_not_created(client: Any, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    files = {"config.json": client.create_blob(tmp_path / "config.json")}
    refused(
        lambda: client.create("half", files=files, stream=False),
        "was not created, because it could not be run",
    )
    refused(lambda: client.show("half"), "not found", 404)
    refused(lambda: client.create("new", from_="nobody", stream=False), "not found", 404)
    refused(lambda: client.create("here", from_="stored", stream=False), "is already an alias")


def test_there_is_no_account(gateway: Gateway) -> None:
    answer = gateway.http.post("/api/me")
    assert (answer.status_code, answer.json()["error"][:12]) == (401, "unauthorized")
