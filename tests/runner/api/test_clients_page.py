"""docs/clients.md: every snippet that can be run here is run, as it stands there but for the port and the model."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.runner.api.openai.test_node import NODE, installed
from tests.runner.gateway.live import Gateway
from tests.runner.live import ROOT
from tests.waiting import PATIENCE

PAGE = (ROOT / "docs" / "clients.md").read_text()
TEXT, PICTURE = "Qwen/Qwen3-0.6B", "black-forest-labs/FLUX.2-klein-4B"
SNIPPETS = re.findall(r"^```(bash|python|js|yaml|json)\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)


def here(snippet: str, gateway: Gateway) -> str:
    assert "11435" in snippet
    snippet = snippet.replace("11435", str(gateway.port)).replace(TEXT, "toy").replace(PICTURE, "klein")
    return snippet.replace("1024x768", "64x48")


def of(language: str) -> list[str]:
    return [snippet for kind, snippet in SNIPPETS if kind == language]


def test_the_page_has_a_snippet_of_each() -> None:
    assert {kind for kind, _ in SNIPPETS} == {"bash", "python", "js", "yaml", "json"}


@pytest.mark.parametrize("snippet", of("bash"))
def test_curl(gateway: Gateway, snippet: str) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    done = subprocess.run(
        ["bash", "-c", here(snippet, gateway)], capture_output=True, text=True, timeout=PATIENCE
    )
    assert done.returncode == 0, done.stderr
    assert '"chat.completion"' in done.stdout


@pytest.mark.parametrize("snippet", of("python"))
def test_python(gateway: Gateway, snippet: str, tmp_path: Path) -> None:
    pytest.importorskip("openai", reason="the clients group is not installed")
    command = [sys.executable, "-c", here(snippet, gateway)]
    # LiteLLM's table of prices is in the package; otherwise it is fetched.
    env = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    pictures = list(tmp_path.glob("*.png"))
    assert done.stdout or Image.open(pictures[0]).size == (64, 48)


@pytest.mark.skipif(not installed(), reason="node, or its openai package, is not installed")
@pytest.mark.parametrize("snippet", of("js"))
def test_javascript(gateway: Gateway, snippet: str) -> None:
    command = ["node", "--input-type=module", "--eval", here(snippet, gateway)]
    done = subprocess.run(command, cwd=NODE, capture_output=True, text=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()


def settings(language: str, word: str, gateway: Gateway) -> Any:
    """The snippet with this word in it, read."""
    (snippet,) = [snippet for snippet in of(language) if word in snippet]
    if language == "json":
        return json.loads(here(snippet, gateway))
    yaml = pytest.importorskip("yaml", reason="nothing here reads YAML")
    return yaml.safe_load(here(snippet, gateway))


def test_litellms_proxy_finds_its_models(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its proxy is a router behind HTTP."""
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    litellm = pytest.importorskip("litellm", reason="the clients group is not installed")
    router = litellm.Router(model_list=settings("yaml", "model_list", gateway)["model_list"], num_retries=0)
    messages = [{"role": "user", "content": "Why?"}]
    answer = router.completion(model="qwen", messages=messages, max_tokens=4, timeout=PATIENCE)
    assert answer.usage.completion_tokens == 4
    drawn = router.image_generation(model="flux", prompt="a boat", size="32x32", extra_body={"steps": 1})
    assert drawn.data[0].b64_json


def test_continues_models_answer_by_their_providers(gateway: Gateway) -> None:
    models = settings("yaml", "apiBase", gateway)["models"]
    paths = {"ollama": "/api/chat", "openai": "/chat/completions"}
    assert {model["provider"] for model in models} == set(paths)
    for model in models:
        body = {"model": model["model"], "messages": [{"role": "user", "content": "Why?"}], "stream": False}
        short = {"max_tokens": 4, "options": {"num_predict": 4}}
        answer = gateway.http.post(model["apiBase"] + paths[model["provider"]], json=body | short)
        assert answer.status_code == 200, answer.text


def test_vs_codes_custom_endpoint_answers(gateway: Gateway) -> None:
    (provider,) = settings("json", "customendpoint", gateway)
    (model,) = provider["models"]
    body = {"model": model["id"], "messages": [{"role": "user", "content": "Why?"}], "max_tokens": 4}
    answer = gateway.http.post(model["url"], json=body)
    assert answer.json()["object"] == "chat.completion"
