"""What is missing between two texts: OpenAI's and Ollama's `suffix`, llama-server's /infill."""

import json
from collections.abc import Iterator

import pytest

from runner.api.ollama.models import ModelfileDefaults
from runner.api.ollama.requests import Generate
from runner.protocol.text import Infill
from tests.runner.gateway.live import Gateway
from tests.saying import make_saying_model
from tests.toys import toy_text

MIDDLE = " return 1\n"


@pytest.fixture(scope="module")
def coder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """`coder` writes a line of code behind the token before a middle, and then one that ends it; `toy` knows no such tokens."""
    marks = ("<|fim_prefix|>", "<|fim_suffix|>", "<|fim_middle|>")
    folder = make_saying_model(
        tmp_path_factory.mktemp("coder") / "coder", *marks, " return", " 1\n", "<|fim_pad|>"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    config["added_tokens_decoder"] = {str(token["id"]): {"content": token["content"]} for token in added}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with Gateway(
        {"coder": folder, "toy": toy_text()}, pretend=False, memory=64 * 1024**3, force=True
    ) as gateway:
        yield gateway


def test_openai_completions(coder: Gateway) -> None:
    body = {"model": "coder", "prompt": "def one():", "suffix": "\n\nprint(one())", "max_tokens": 20}
    answer = coder.http.post("/v1/completions", json=body).json()
    assert answer["choices"][0]["text"] == MIDDLE
    assert answer["choices"][0]["finish_reason"] == "stop"
    echoed = coder.http.post("/v1/completions", json={**body, "prompt": "", "echo": True}).json()
    assert echoed["choices"][0]["text"] == MIDDLE
    streamed = coder.http.post("/v1/completions", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line.startswith("data: {")]
    assert "".join(event["choices"][0]["text"] for event in events) == MIDDLE
    refused = coder.http.post("/v1/completions", json={**body, "echo": True, "logprobs": 1})
    assert (refused.status_code, refused.json()["error"]["param"]) == (400, "suffix")


def test_ollama_generate(coder: Gateway) -> None:
    body = {"model": "coder", "prompt": "def one():", "suffix": "\n", "stream": False, "system": "Be brief."}
    answer = coder.http.post("/api/generate", json=body).json()
    assert (answer["response"], answer["done_reason"]) == (MIDDLE, "stop")
    assert answer["warnings"] == ["system was ignored: what is filled in is no answer of a chat"]
    template = "{{ if .Suffix }}{{ .Suffix }}<|fim_prefix|>{{ .Prompt }}<|fim_middle|>{{ else }}{{ .Prompt }}{{ end }}"
    answer = coder.http.post("/api/generate", json={**body, "template": template}).json()
    assert answer["response"] == MIDDLE
    for field, value in (("raw", True), ("context", [1]), ("images", ["a"])):
        refused = coder.http.post("/api/generate", json={**body, field: value})
        assert (refused.status_code, f"combined with {field}" in refused.json()["error"]) == (400, True)


def test_llama_servers_infill(coder: Gateway) -> None:
    coder.http.post("/models/load", json={"model": "coder"}).raise_for_status()
    body = {
        "model": "coder",
        "input_prefix": "def one():",
        "input_suffix": "\n",
        "input_extra": [{"filename": "two.py", "text": "def two():\n    return 2\n"}],
        "n_predict": 20,
    }
    answer = coder.http.post("/infill", json={**body, "samplers": ["top_k", "infill"]}).json()
    assert (answer["content"], answer["stop_type"], answer["truncated"]) == (MIDDLE, "eos", False)
    assert answer["timings"]["predicted_n"] == answer["tokens_predicted"] == 2
    assert answer["warnings"] == ["samplers was ignored: it has no effect here"]
    named = coder.http.post(
        "/infill", json={**body, "response_fields": ["content", "timings/prompt_n"]}
    ).json()
    assert named.keys() == {"content", "timings"}
    streamed = coder.http.post("/infill", json={**body, "stream": True}).text
    events = [json.loads(line[6:]) for line in streamed.splitlines() if line]
    assert "".join(event["content"] for event in events) == MIDDLE
    assert [event["stop"] for event in events][-2:] == [False, True]
    longer = coder.http.post("/infill", json={**body, "input_prefix": "a = 1\n" * 5000}).json()
    assert (longer["content"], longer["truncated"]) == (MIDDLE, True)
    stopped = coder.http.post("/infill", json={**body, "stop": [" 1"]}).json()
    assert (stopped["content"], stopped["stop_type"], stopped["stopping_word"]) == (" return", "word", " 1")


def test_others_say_that_they_cannot(coder: Gateway) -> None:
    requests = {
        "/v1/completions": {"prompt": "a", "suffix": "b"},
        "/api/generate": {"prompt": "a", "suffix": "b", "stream": False},
        "/infill": {"input_prefix": "a", "input_suffix": "b"},
        "/completion": {"prompt": "a", "infill": {"suffix": "b"}},
    }
    for path, body in requests.items():
        refused = coder.http.post(path, json={"model": "toy", **body})
        assert (refused.status_code, "no tokens for filling in the middle" in refused.text) == (400, True), (
            path
        )
    unclear = coder.http.post("/completion", json={"model": "coder", "infill": {"suffix": "b"}})
    assert (unclear.status_code, "infill: it needs a prompt" in unclear.text) == (400, True)


def test_capabilities_and_the_prompt_itself(coder: Gateway) -> None:
    for name, inserts in (("coder", True), ("toy", False)):
        shown = coder.http.post("/api/show", json={"model": name}).json()
        assert ("insert" in shown["capabilities"]) is inserts
    body = {"model": "coder", "prompt": "a<|fim_middle|>", "infill": {"suffix": "b", "begun": "c"}}
    rendered = coder.http.post("/apply-template", json=body).json()
    assert rendered["prompt"] == "<|fim_prefix|>a<|fim_middle|><|fim_suffix|>b<|fim_middle|>c"


def test_a_model_of_ollamas_store_may_have_a_template_for_it() -> None:
    template = (
        "{{- if .Suffix }}<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>\n{{- else if .Messages }}"
        "{{- range $i, $_ := .Messages }}{{ .Role }}{{ end }}{{- end }}"
    )
    request = Generate(b'{"model": "coder", "prompt": "a", "suffix": "b"}')
    request.apply_defaults(ModelfileDefaults(template=template))
    text = request.text()
    assert (text.prompt, text.infill) == ("<PRE> a <SUF>b <MID>", Infill(rendered=True))
