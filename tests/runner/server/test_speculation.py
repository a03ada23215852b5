"""A request's drafts, from its body to the counts in its last event: the text stays the same."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest

from models.language.build import LoadError
from runner.engine.text.worker import TextSettings, load_text_worker
from runner.sources import ModelMode, find
from tests.runner.live import in_process
from tests.toys import toy_text

PROMPT = "The harbour wakes before the town does, and the gulls know it."
OPTIONS = {
    "greedy": {"num_predict": 40},
    "seeded": {"num_predict": 40, "temperature": 1.0, "seed": 5},
    "penalized": {"num_predict": 40, "temperature": 0.7, "seed": 6, "repeat_penalty": 1.2},
}


def run(
    settings: TextSettings,
    ask: Callable[[httpx2.AsyncClient], Coroutine[Any, Any, Any]],
    family: str = "qwen3",
) -> Any:
    async def all_of_it() -> Any:
        async with in_process(toy_text(family), settings) as client:
            return await ask(client)

    return asyncio.run(all_of_it())


async def complete(client: httpx2.AsyncClient, **body: Any) -> dict[str, Any]:
    answer = await client.post("/completion", json={"prompt": PROMPT, "stream": False, **body})
    assert answer.status_code == 200, answer.text
    whole: dict[str, Any] = answer.json()
    return whole


@pytest.mark.parametrize("name", OPTIONS)
def test_a_predicted_answer_is_the_same_and_its_drafts_are_counted(name: str) -> None:
    async def ask(client: httpx2.AsyncClient) -> None:
        plain = await complete(client, options=OPTIONS[name], logprobs=True)
        predicted = await complete(client, options=OPTIONS[name], logprobs=True, prediction=plain["content"])
        assert predicted["tokens"] == plain["tokens"]
        assert predicted["content"] == plain["content"]
        assert predicted["eval_count"] == plain["eval_count"] == 40
        assert [one["id"] for one in predicted["logprobs"]] == plain["tokens"]
        assert (plain["drafted"], plain["accepted"]) == (0, 0)
        assert predicted["drafted"] >= predicted["accepted"] > 10
        status = (await client.get("/v1/status")).json()
        assert (status["drafted"], status["accepted"]) == (predicted["drafted"], predicted["accepted"])
        assert (
            f"diptych_accepted_tokens_total {float(predicted['accepted'])}"
            in (await client.get("/metrics")).text
        )

    run(TextSettings(cache_bytes=0), ask)


def test_a_stop_string_within_accepted_tokens_cuts_where_it_would_without() -> None:
    async def ask(client: httpx2.AsyncClient) -> None:
        plain = await complete(client, options={"num_predict": 40})
        for at in range(8, 30, 3):
            stop = plain["content"][at : at + 3]
            options = {"num_predict": 40, "stop": stop}
            expected = await complete(client, options=options)
            found = await complete(client, options=options, prediction=plain["content"])
            for field in ("content", "tokens", "eval_count", "stop_reason", "done_reason"):
                assert found[field] == expected[field], (stop, field)
            assert found["accepted"] <= found["eval_count"]

    run(TextSettings(cache_bytes=0), ask)


def test_a_schema_holds_with_drafts() -> None:
    schema = {
        "type": "object",
        "properties": {"a": {"enum": ["north", "south"]}, "b": {"type": "integer"}},
        "required": ["a", "b"],
    }

    async def ask(client: httpx2.AsyncClient) -> None:
        options = {"num_predict": 60, "temperature": 1.0, "seed": 3}
        plain = await complete(client, format=schema, options=options)
        predicted = await complete(client, format=schema, options=options, prediction=plain["content"])
        assert predicted["tokens"] == plain["tokens"]
        assert predicted["accepted"] > 0

    run(TextSettings(cache_bytes=0), ask)


def test_a_request_may_switch_off_what_the_runner_was_started_with() -> None:
    async def ask(client: httpx2.AsyncClient) -> None:
        text = " ".join([PROMPT] * 4)
        plain = await complete(client, prompt=text, speculate="off", options={"num_predict": 60})
        assert plain["drafted"] == 0
        assert (await complete(client, prompt=text, options={"num_predict": 60}))["tokens"] == plain["tokens"]

    run(TextSettings(cache_bytes=0, lookup=True), ask)


def test_a_draft_model_is_asked_unless_a_request_says_otherwise() -> None:
    draft = find(str(toy_text("qwen3"))).fetch(ModelMode.TEXT)

    async def ask(client: httpx2.AsyncClient) -> None:
        plain = await complete(client, speculate=False, options={"num_predict": 40})
        drafted = await complete(client, options={"num_predict": 40})
        assert drafted["tokens"] == plain["tokens"]
        assert drafted["accepted"] > 20, "it is the same model"
        assert plain["drafted"] == 0
        few = await complete(client, speculate=2, options={"num_predict": 40})
        assert few["tokens"] == plain["tokens"]

    run(TextSettings(cache_bytes=0, draft=draft), ask)


def test_a_draft_model_of_another_tokenizer_is_refused() -> None:
    local, draft = (find(str(toy_text(family))).fetch(ModelMode.TEXT) for family in ("qwen3", "gemma3"))
    with pytest.raises(LoadError, match="because their tokenizers differ"):
        load_text_worker(local, TextSettings(draft=draft), lambda done: None)


def test_a_network_without_blocks_says_that_nothing_is_drafted() -> None:
    async def ask(client: httpx2.AsyncClient) -> None:
        answer = await complete(client, speculate="lookup", options={"num_predict": 5})
        assert answer["drafted"] == 0
        assert answer["warnings"] == [
            "speculate is off: the keys and values of this model are not kept in blocks"
        ]
        notes = (await client.get("/v1/status")).json()["notes"]
        assert (
            "speculative decoding is off: the keys and values of this model are not kept in blocks" in notes
        )

    run(TextSettings(cache_bytes=0, lookup=True), ask, "lfm2")


def test_a_draft_model_that_cannot_be_used_is_no_error() -> None:
    """A hybrid writes without it, and says why."""
    draft = find(str(toy_text("qwen3"))).fetch(ModelMode.TEXT)

    async def ask(client: httpx2.AsyncClient) -> None:
        answer = await complete(client, options={"num_predict": 5})
        assert answer["warnings"] == [
            "speculate is off: the keys and values of this model are not kept in blocks"
        ]

    run(TextSettings(cache_bytes=0, draft=draft), ask, "qwen3_next")
