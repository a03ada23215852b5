"""What lies in an Ollama store runs as it is: a GGUF that chats, an encoder, a model that sees, one that draws; on one port."""

import base64
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

from runner.inspect.mode import ModelMode
from tests import ROOT
from tests.models.encoders.checkpoints import stored, words
from tests.pipelines import toys
from tests.runner.cli.commands.run import Diptych
from tests.runner.gateway.live import Gateway
from tests.runner.ollama_store import layer, manifest, store_model, store_pipeline
from tests.runner.pictures import sent
from tests.toys import toy_vision
from tests.toys.gguf import toy_gguf

LIBRARY = "registry.ollama.ai/library"


@pytest.fixture
def store(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = machine / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    gguf = toy_gguf(machine / "chats.gguf")
    manifest(root, f"{LIBRARY}/chats/latest", [layer(root, "model", "", gguf.read_bytes())])
    store_model(root, f"{LIBRARY}/embeds/latest", words(stored("bert", machine / "embeds")))
    store_model(root, f"{LIBRARY}/sees/latest", toy_vision())
    store_pipeline(root, f"{LIBRARY}/draws/latest", toys.write("klein", machine / "draws").folder)
    return root


@pytest.fixture
def gateway(store: Path) -> Iterator[Gateway]:
    with Gateway({}, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


def run(*arguments: str, said: bytes = b"") -> bytes:
    command = [sys.executable, "-m", "runner", *arguments]
    done = subprocess.run(command, cwd=ROOT, input=said, capture_output=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_four_models_of_a_store_on_one_port(
    gateway: Gateway, machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DIPTYCH_PORT", str(gateway.port))
    monkeypatch.setenv("COLUMNS", "120")
    diptych = Diptych(capsys)
    listed = diptych("list", "--json").json["models"]
    modes = {model["name"]: (model["mode"], model["fault"]) for model in listed}
    assert modes == {
        "chats:latest": (ModelMode.TEXT, None),
        "draws:latest": (ModelMode.IMAGE, None),
        "embeds:latest": (ModelMode.TEXT, None),
        "sees:latest": (ModelMode.TEXT, None),
    }
    assert "text, sees" in diptych("list").out
    shown = {
        name: gateway.http.post("/api/show", json={"model": name}).json()["capabilities"] for name in modes
    }
    assert (shown["sees:latest"], shown["embeds:latest"]) == (["completion", "vision"], ["embedding"])
    assert "completion" in shown["chats:latest"]

    assert run("chat", "chats", "--set", "num_predict=8", said=b"The sea").strip()
    body = {"model": "embeds", "input": ["abc", "cab"]}
    assert len(gateway.http.post("/api/embed", json=body).json()["embeddings"]) == 2
    answers = set()
    for seed in (1, 2):
        message = {"role": "user", "content": "What is it?", "images": [sent(seed)]}
        options = {"num_predict": 8, "temperature": 0}
        body = {"model": "sees", "messages": [message], "stream": False, "options": options}
        answers.add(json.dumps(gateway.http.post("/api/chat", json=body).json()["message"]))
    assert len(answers) == 2
    drawn = machine / "drawn.png"
    size = ("--width", "64", "--height", "64", "--steps", "1")
    run("draw", "--model", "draws", "a red circle", *size, "-o", str(drawn))
    assert Image.open(drawn).size == (64, 64)
    body = {"model": "sees", "prompt": "And this?", "images": [base64.b64encode(drawn.read_bytes()).decode()]}
    seen = gateway.http.post(
        "/api/generate", json={**body, "stream": False, "options": {"num_predict": 4}}
    ).json()
    assert seen["prompt_eval_count"] > 20
