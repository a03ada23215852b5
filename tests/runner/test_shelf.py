"""What lies in an Ollama store runs as it is: a GGUF that chats, one that sees, an encoder, a checkpoint that sees, a model that
draws; on one port."""

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
from tests.models.language.gguf.vision_files import GGUF_CASES, described, write_whole
from tests.pipelines import toys
from tests.runner.cli.commands.run import Diptych
from tests.runner.gateway.live import Gateway
from tests.runner.ollama_store import layer, manifest, store_model, store_pipeline
from tests.runner.pictures import sent
from tests.toys import toy_vision
from tests.toys.gguf import toy_gguf

LIBRARY = "registry.ollama.ai/library"
# With the tower in the same file, as Ollama converts it.
LOOKS = "gemma3-gguf"
TURNS = b"{{ range .Messages }}<start_of_turn>{{ .Role }}\n{{ .Content }}<end_of_turn>\n{{ end }}<start_of_turn>model\n"


@pytest.fixture
def store(machine: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    root = machine / "ollama"
    monkeypatch.setenv("OLLAMA_MODELS", str(root))
    gguf = toy_gguf(machine / "chats.gguf")
    manifest(root, f"{LIBRARY}/chats/latest", [layer(root, "model", "", gguf.read_bytes())])
    store_model(root, f"{LIBRARY}/embeds/latest", words(stored("bert", machine / "embeds")))
    store_model(root, f"{LIBRARY}/sees/latest", toy_vision())
    looks = write_whole(machine / "looks.gguf", GGUF_CASES[LOOKS], described(LOOKS))
    manifest(
        root,
        f"{LIBRARY}/looks/latest",
        [layer(root, "model", "", looks.read_bytes()), layer(root, "template", "", TURNS)],
    )
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


def test_the_models_of_a_store_on_one_port(
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
        "looks:latest": (ModelMode.TEXT, None),
        "sees:latest": (ModelMode.TEXT, None),
    }
    assert diptych("list").out.count("text, sees") == 2
    shown = {
        name: gateway.http.post("/api/show", json={"model": name}).json()["capabilities"] for name in modes
    }
    assert (shown["sees:latest"], shown["embeds:latest"]) == (["completion", "vision"], ["embedding"])
    assert shown["looks:latest"] == ["completion", "vision"]
    assert "completion" in shown["chats:latest"]

    assert run("chat", "chats", "--set", "num_predict=8", said=b"The sea").strip()
    body = {"model": "embeds", "input": ["abc", "cab"]}
    assert len(gateway.http.post("/api/embed", json=body).json()["embeddings"]) == 2
    for model in ("sees", "looks"):
        answers = set()
        for seed in (1, 2):
            message = {"role": "user", "content": "What is it?", "images": [sent(seed)]}
            options = {"num_predict": 8, "temperature": 0}
            body = {
                "model": model,
                "messages": [message],
                "stream": False,
                "options": options,
                "logprobs": True,
            }
            answer = gateway.http.post("/api/chat", json=body).json()
            assert answer["message"]["content"], answer
            answers.add(json.dumps(answer["logprobs"]))
        assert len(answers) == 2, model
    drawn = machine / "drawn.png"
    size = ("--width", "64", "--height", "64", "--steps", "1")
    run("draw", "--model", "draws", "a red circle", *size, "-o", str(drawn))
    assert Image.open(drawn).size == (64, 64)
    body = {"model": "sees", "prompt": "And this?", "images": [base64.b64encode(drawn.read_bytes()).decode()]}
    seen = gateway.http.post(
        "/api/generate", json={**body, "stream": False, "options": {"num_predict": 4}}
    ).json()
    assert seen["prompt_eval_count"] > 20
