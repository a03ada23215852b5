"""Documents ranked through the gateway, by a cross-encoder and by a language model that answers yes or no."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import mlx.core as mx
import pytest

from models.encoders.cross_encoder import CrossEncoder
from models.encoders.load import load
from models.language.embedding.reranker import BEGIN, END, INSTRUCTION
from models.language.load import load as load_language_model
from runner.sources import ModelMode, find
from tests.models.encoders.checkpoints import local, stored, words
from tests.runner.gateway.live import Gateway
from tests.toys import toy_text

DOCUMENTS = ["abc", "zebra cab", "", "cab abc cab"]
QUERY = "cab"


def answering(folder: Path) -> None:
    """Give a toy the two answers of a reranker, in place of two of its words."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    ids = (600, 601)
    vocabulary = {id: word for word, id in tokenizer["model"]["vocab"].items()}
    merged = {vocabulary[id] for id in ids}
    tokenizer["model"]["vocab"] = {word: id for id, word in vocabulary.items() if id not in ids}
    tokenizer["model"]["merges"] = [
        pair
        for pair in tokenizer["model"]["merges"]
        if "".join(pair) not in merged and not merged & set(pair)
    ]
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized", "special"), False)
    tokenizer["added_tokens"] += [
        {"id": id, "content": word, **flags} for id, word in zip(ids, ("no", "yes"), strict=True)
    ]
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    home = tmp_path_factory.mktemp("rerankers")
    answering(shutil.copytree(toy_text(), home / "Qwen3-Reranker-toy"))
    return {
        "cross": words(stored("bert-scores", home / "cross")),
        "embeds": words(stored("bert", home / "embeds")),
        "qwen": home / "Qwen3-Reranker-toy",
        "writes": toy_text(),
    }


@pytest.fixture(scope="module")
def gateway(folders: dict[str, Path]) -> Iterator[Gateway]:
    with Gateway(folders, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


def ask(gateway: Gateway, path: str = "/v1/rerank", **body: Any) -> httpx2.Response:
    return gateway.http.post(path, json={"model": "cross", "query": QUERY, "documents": DOCUMENTS, **body})


def test_the_most_relevant_documents_come_first_with_their_scores(
    gateway: Gateway, folders: dict[str, Path]
) -> None:
    encoder = CrossEncoder(load(local(folders["cross"])))
    pairs = [encoder.pair(QUERY, document, 40) for document in DOCUMENTS]
    expected = {index: score for step in encoder.steps(pairs) for index, score in step.items()}
    answer = ask(gateway).json()
    places = [result["index"] for result in answer["results"]]
    assert places == sorted(range(4), key=lambda index: -expected[index])
    for result in answer["results"]:
        assert result["relevance_score"] == pytest.approx(expected[result["index"]], abs=1e-5)
        assert result["document"] == {"text": DOCUMENTS[result["index"]]}
    assert answer["model"] == "cross"
    total = sum(len(pair.ids) for pair in pairs)
    assert answer["usage"] == {"prompt_tokens": total, "total_tokens": total}


@pytest.mark.parametrize("path", ["/rerank", "/v2/rerank"])
def test_the_other_paths_and_shapes_answer_the_same(path: str, gateway: Gateway) -> None:
    expected = ask(gateway).json()["results"]
    objects = [{"text": document} for document in DOCUMENTS]
    best = ask(gateway, path, documents=objects, top_n=2, return_documents=False).json()["results"]
    assert best == [{key: one[key] for key in ("index", "relevance_score")} for one in expected[:2]]
    assert len(ask(gateway, path, top_n=100).json()["results"]) == 4


def test_a_long_document_is_cut_unless_the_request_forbids_it(gateway: Gateway) -> None:
    long = ["abc " * 100, "cab"]
    assert ask(gateway, documents=long).json()["usage"]["total_tokens"] == 40 + 9
    refused = ask(gateway, documents=long, truncate=False)
    assert refused.status_code == 400
    assert "documents[0]: with the query its 306 tokens do not fit into the context of 40" in refused.text


def test_a_language_model_scores_by_the_probability_of_yes(
    gateway: Gateway, folders: dict[str, Path]
) -> None:
    model = load_language_model(find(str(folders["qwen"])).fetch(ModelMode.TEXT), float32=True)

    def encode(text: str) -> list[int]:
        return list(model.tokenizer.encode(text, add_special_tokens=False))

    def probability(document: str, instruction: str) -> float:
        text = f"<Instruct>: {instruction}\n<Query>: {QUERY}\n<Document>: {document}"
        logits = model.model(mx.array([encode(BEGIN) + encode(text) + encode(END)]))[0, -1]
        return mx.softmax(logits[mx.array([encode("no")[0], encode("yes")[0]])])[1].item()

    for given in (None, "Find zebras"):
        answer = ask(gateway, model="qwen", instruction=given).json()["results"]
        assert len(answer) == 4
        for result in answer:
            expected = probability(DOCUMENTS[result["index"]], given or INSTRUCTION)
            assert result["relevance_score"] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"documents": []}, "documents"),
        ({"documents": "abc"}, "documents"),
        ({"documents": [3]}, "documents"),
        ({"documents": [{"body": "abc"}]}, "text"),
        ({"documents": ["a"] * 2049}, "documents"),
        ({"query": ""}, "query"),
        ({"query": None}, "query"),
        ({"top_n": 0}, "top_n"),
        ({"instruction": "x"}, "instruction: this model takes none"),
        ({"model": "nobody"}, "nobody"),
        (
            {"model": "embeds"},
            "an encoder (bert), which makes vectors; use it with /v1/embeddings or /api/embed",
        ),
        ({"model": "writes"}, "this model writes text and scores no documents"),
    ],
)
def test_bad_requests_say_what_is_wrong(body: dict[str, Any], message: str, gateway: Gateway) -> None:
    answer = ask(gateway, **body)
    assert answer.status_code in (400, 404)
    assert message in answer.json()["error"]["message"]


def test_a_cross_encoder_makes_no_vectors_and_writes_nothing(gateway: Gateway) -> None:
    for path, body in (("/v1/embeddings", {"input": "a"}), ("/v1/completions", {"prompt": "a"})):
        answer = gateway.http.post(path, json={"model": "cross", **body})
        assert answer.status_code == 400
        assert "which scores documents" in answer.text
        assert "use it with /v1/rerank" in answer.text


def test_their_capability_is_shown(gateway: Gateway) -> None:
    listed = gateway.http.get("/v1/models").json()["data"]
    models = {model["id"]: (model["type"], model["capabilities"]) for model in listed}
    assert models["cross"] == models["qwen"] == ("reranker", ["rerank"])
    assert models["embeds"] == ("embeddings", ["embedding"])
