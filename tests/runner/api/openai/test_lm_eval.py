"""lm_eval's local-completions on a small task of local data: log likelihoods of choices, and answers that are generated.

Its packages are many, so it is not in a group of ours: `uv tool install "lm_eval[api]==0.4.13" --with transformers`, and it runs
where the program is found.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.runner.gateway.live import Gateway
from tests.toys import toy_text

LM_EVAL = shutil.which("lm_eval")
DOCUMENTS = [
    {"question": "The sea is", "choices": ["wide", "a small green box"], "answer": 0},
    {"question": "A boat", "choices": ["flies over it all day", "floats"], "answer": 1},
]
COMMON = """
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
doc_to_text: "{{{{question}}}}"
"""
CHOICES = """
output_type: multiple_choice
doc_to_choice: choices
doc_to_target: answer
metric_list: [{metric: acc}]
"""
WRITTEN = """
output_type: generate_until
doc_to_target: "{{choices[0]}}"
generation_kwargs: {until: ["#"], max_gen_toks: 5, temperature: 0}
metric_list: [{metric: exact_match}]
"""


@pytest.mark.slow
@pytest.mark.skipif(LM_EVAL is None, reason="lm_eval is not installed")
def test_likelihoods_and_answers_are_the_models_own(gateway: Gateway, tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("\n".join(map(json.dumps, DOCUMENTS)))
    for name, kind in (("toy_choices", CHOICES), ("toy_written", WRITTEN)):
        (tmp_path / f"{name}.yaml").write_text(COMMON.format(name=name, data=data) + kind)
    settings = f"model=toy,base_url={gateway.url}/v1/completions,tokenizer={toy_text()},num_concurrent=2"
    done = subprocess.run(
        [
            *(str(LM_EVAL), "--model", "local-completions", "--model_args", settings),
            *("--tasks", "toy_choices,toy_written", "--include_path", str(tmp_path)),
            *("--log_samples", "--output_path", str(tmp_path / "out")),
        ],
        env={**os.environ, "OPENAI_API_KEY": "none", "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    samples = {
        file.name.split("samples_")[1][:11]: [json.loads(line) for line in file.read_text().splitlines()]
        for file in (tmp_path / "out").rglob("samples_*.jsonl")
    }
    assert [sample["doc_id"] for sample in samples["toy_choices"]] == [0, 1]
    for sample, document in zip(samples["toy_choices"], DOCUMENTS, strict=True):
        measured = [float(answer[0][0]) for answer in sample["resps"]]
        expected = [likelihood(gateway, document["question"], f" {choice}") for choice in document["choices"]]
        assert measured == pytest.approx(expected, abs=1e-3)
        assert sample["acc"] == float(expected.index(max(expected)) == document["answer"])
    for sample, document in zip(samples["toy_written"], DOCUMENTS, strict=True):
        body = {
            "model": "toy",
            "prompt": document["question"],
            "max_tokens": 5,
            "temperature": 0,
            "stop": "#",
        }
        written = gateway.http.post("/v1/completions", json=body).raise_for_status().json()
        assert sample["resps"][0][0] == written["choices"][0]["text"]


def likelihood(gateway: Gateway, context: str, continuation: Any) -> float:
    """The log probability of a text's continuation, token by token as the model itself writes it."""

    def tokens(text: str) -> list[int]:
        return list(post(gateway, "/tokenize", {"content": text})["tokens"])

    whole, begun = tokens(context + continuation), tokens(context)
    total = 0.0
    for at in range(len(begun), len(whole)):
        # A bias that leaves nothing else: the token is drawn, and its log probability is the model's own.
        body = {"prompt": whole[:at], "max_tokens": 1, "logprobs": 0, "logit_bias": {str(whole[at]): 100}}
        choice = post(gateway, "/v1/completions", {**body, "temperature": 0})["choices"][0]
        total += choice["logprobs"]["token_logprobs"][0]
    return total


def post(gateway: Gateway, path: str, body: dict[str, Any]) -> Any:
    response: httpx2.Response = gateway.http.post(path, json={"model": "toy", **body})
    return response.raise_for_status().json()
