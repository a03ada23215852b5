"""Answers of SmolLM2-135M-Instruct in float32: token for token those that transformers writes."""

import asyncio
import json
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, cast

import httpx2
import mlx.core as mx
import pytest
from msgspec import to_builtins

from runner.api.openai.chat import Chat
from runner.api.openai.chat_stream import ChoiceReader
from runner.cli.commands.quantize import quantize
from runner.engine.text.worker import TextSettings
from runner.protocol.events import TextEvent, decode_event
from runner.protocol.text import encode
from runner.protocol.text_rules import parse_text
from tests.runner.live import Event, events, in_process, text, tokens
from tests.weights.prompts import CHATS, requests, user
from tests.weights.smollm2 import LAYOUTS, Reference

pytestmark = [pytest.mark.weights, pytest.mark.timeout(1800)]

TOKENS = 8
REQUESTS = requests(TOKENS)
ALONE = TextSettings(cache_bytes=0)  # nothing of another prompt is taken


def run(work: Coroutine[Any, Any, None]) -> None:
    asyncio.run(work)


async def ask(client: httpx2.AsyncClient, request: dict[str, Any], **fields: Any) -> list[Event]:
    return events(await client.post("/completion", json={**request, **fields}))


def check(stream: list[Event], request: dict[str, Any], reference: Reference) -> None:
    ids, expected = reference.ids(request), reference.greedy(request)
    assert stream[-1]["prompt_eval_count"] == len(ids)
    assert tokens(stream) == expected, reference.tokenizer.decode(ids)[-80:]
    assert stream[-1]["stop_reason"] == ("length" if len(expected) == TOKENS else "stop")


def test_the_prompts_are_of_many_kinds(reference: Reference) -> None:
    lengths = [len(reference.ids(request)) for request in REQUESTS]
    assert len(REQUESTS) == 20
    assert 1400 < max(lengths) < 1600
    assert any(len(reference.greedy(request)) < TOKENS for request in REQUESTS), (
        "some answers end by themselves"
    )


def test_answers_alone_are_those_of_transformers(layouts: dict[str, Path], reference: Reference) -> None:
    async def alone() -> None:
        async with in_process(layouts["rope_theta"], ALONE) as client:
            for request in REQUESTS:
                check(await ask(client, request), request, reference)

    run(alone())


def test_answers_at_once_and_from_the_prefix_cache_are_the_same(
    layouts: dict[str, Path], reference: Reference
) -> None:
    async def together() -> None:
        async with in_process(layouts["rope_theta"]) as client:
            for cached in (False, True):
                streams = await asyncio.gather(*(ask(client, request) for request in REQUESTS))
                for answer, request in zip(streams, REQUESTS, strict=True):
                    check(answer, request, reference)
                    if cached:
                        assert answer[-1]["cached"] == answer[-1]["prompt_eval_count"] - 1

    run(together())


EDIT = """Rename the function total to add_up in this file. Write the whole file.

```python
def total(amounts):
    result = 0
    for amount in amounts:
        result += amount
    return result


print(total([1, 2, 3]))
```"""


@pytest.mark.parametrize(
    ("options", "share"), [({}, 1 / 3), ({"temperature": 0.7, "seed": 5}, 1 / 20)], ids=["greedy", "seeded"]
)
def test_tokens_drafted_from_the_prompt_change_nothing(
    layouts: dict[str, Path], options: dict[str, Any], share: float
) -> None:
    """The greedy answer repeats the file; the seeded one says something else."""
    request = {"messages": [user(EDIT)], "options": {"num_predict": 80, **options}}

    async def both() -> None:
        async with in_process(layouts["rope_theta"], ALONE) as client:
            plain = await ask(client, request, speculate="off")
            drafted = await ask(client, request, speculate="lookup")
        assert tokens(drafted) == tokens(plain)
        assert text(drafted) == text(plain)
        assert drafted[-1]["accepted"] > share * len(tokens(drafted))

    run(both())


@pytest.mark.parametrize("layout", LAYOUTS)
def test_log_probabilities_are_those_of_transformers_in_either_layout(
    layouts: dict[str, Path], reference: Reference, layout: str
) -> None:
    """Tokens alone would hide a wrong base of the rotary embedding from short prompts."""
    chosen = [REQUESTS[0], REQUESTS[12], REQUESTS[16]]

    async def measure() -> None:
        async with in_process(layouts[layout], ALONE) as client:
            for request in chosen:
                stream = await ask(client, request, logprobs=True, top_logprobs=5)
                check(stream, request, reference)
                places = [entry for event in stream for entry in event.get("logprobs", [])]
                expected = reference.logprobs(reference.ids(request), tokens(stream))
                assert len(places) == len(tokens(stream))
                for place, row in zip(places, expected, strict=True):
                    assert place["logprob"] == pytest.approx(row[place["id"]].item(), abs=1e-3)
                    assert [top["id"] for top in place["top_logprobs"]] == row.topk(5).indices.tolist()
                    for top in place["top_logprobs"]:
                        assert top["logprob"] == pytest.approx(row[top["id"]].item(), abs=1e-3)

    run(measure())


def test_a_stop_string_ends_the_answer_where_it_stands(
    layouts: dict[str, Path], reference: Reference
) -> None:
    request = REQUESTS[12 + 5]  # Once upon a time
    whole = reference.tokenizer.decode(reference.greedy(request))
    stop = whole[len(whole) // 2 - 2 : len(whole) // 2 + 3]

    async def stopped() -> None:
        async with in_process(layouts["rope_theta"], ALONE) as client:
            stream = await ask(client, {**request, "options": {"num_predict": TOKENS, "stop": [stop]}})
            assert text(stream) == whole[: whole.index(stop)]
            assert stream[-1]["stop_reason"] == "stop"

    run(stopped())


@pytest.mark.parametrize("bias", [-100.0, 12.0])
def test_a_bias_changes_the_answer_as_it_does_in_transformers(
    layouts: dict[str, Path], reference: Reference, bias: float
) -> None:
    """Against the likeliest first token, or for one that would hardly be thought of."""
    request = REQUESTS[0]
    token = reference.greedy(request)[0] if bias < 0 else reference.tokenizer.encode(" Rome")[0]
    expected = reference.greedy(request, sequence_bias=[[[token], bias]])
    assert expected != reference.greedy(request)

    async def biased() -> None:
        async with in_process(layouts["rope_theta"], ALONE) as client:
            options = {"num_predict": TOKENS, "logit_bias": {str(token): bias}}
            assert tokens(await ask(client, {**request, "options": options})) == expected

    run(biased())


def test_an_answer_under_a_schema_follows_it_and_the_question(layouts: dict[str, Path]) -> None:
    properties = {"city": {"type": "string"}, "continent": {"enum": ["Africa", "Asia", "Europe"]}}
    schema = {"type": "object", "properties": properties, "required": ["city", "continent"]}
    request = {"messages": [user("What is the capital of France, and on which continent? As JSON.")]}

    async def constrained() -> None:
        async with in_process(layouts["rope_parameters"], ALONE) as client:
            stream = await ask(client, request, format=schema, options={"num_predict": 60})
            answer = json.loads(text(stream))
            assert (answer["city"], answer["continent"]) == ("Paris", "Europe")
            assert stream[-1]["stop_reason"] == "stop"

    run(constrained())


def test_a_template_without_tools_makes_the_call_that_is_required(layouts: dict[str, Path]) -> None:
    """Of its own accord the model could not: its template writes no tools."""
    place = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    weather = {"name": "get_weather", "description": "The weather in a city.", "parameters": place}
    time = {
        "name": "get_time",
        "description": "The time of day.",
        "parameters": {**place, "properties": {}, "required": []},
    }
    tools = [{"type": "function", "function": function} for function in (weather, time)]
    body = {"model": "smollm2", "messages": [user("What is the weather in Paris?")], "tools": tools}
    named = {"type": "function", "function": {"name": "get_weather"}}

    async def called() -> None:
        async with in_process(layouts["rope_parameters"], ALONE) as client:
            for choice in ("required", named):
                chat = Chat.read(encode({**body, "tool_choice": choice, "temperature": 0, "max_tokens": 60}))
                reader = ChoiceReader(chat)
                answer = await ask(client, to_builtins(chat.engine_requests()[0]))
                pieces = [reader.read(cast(TextEvent, decode_event(encode(event)))) for event in answer]
                (call,) = [call for piece in pieces for call in piece.calls]
                assert call.function.name == "get_weather"
                assert json.loads(call.function.arguments)["city"] == "Paris"
                assert not any(piece.content for piece in pieces)

    run(called())


def test_every_chat_is_read_as_transformers_reads_it(layouts: dict[str, Path], reference: Reference) -> None:
    """The prompt itself, of which the number of its tokens says little."""
    from mlx_lm.utils import load_tokenizer

    from runner.engine.text.chat_prompts import render_chat

    tokenizer = load_tokenizer(layouts["rope_theta"])
    for messages in CHATS:
        prompt = render_chat(tokenizer, parse_text({"messages": messages})).text
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        assert ids == reference.ids({"messages": messages})


def mlx_lm_greedy(model: Any, tokenizer: Any, ids: list[int]) -> list[int]:
    from mlx_lm.generate import generate_step

    written: list[int] = []
    for token, _ in generate_step(mx.array(ids), model, max_tokens=8):
        if token in tokenizer.eos_token_ids:
            break
        written.append(int(token))
    return written


def test_8_bits_are_those_of_mlx_lm(layouts: dict[str, Path], reference: Reference, tmp_path: Path) -> None:
    from mlx_lm import convert
    from mlx_lm.utils import load

    chosen = [REQUESTS[index] for index in (0, 17)]
    source = layouts["rope_theta"]  # of the other layout mlx-lm itself would take another base
    convert(str(source), str(tmp_path / "theirs"), quantize=True, q_bits=8, q_group_size=64)
    model, tokenizer = load(str(tmp_path / "theirs"))
    prompts = [reference.ids(request) for request in chosen]
    expected = [mlx_lm_greedy(model, tokenizer, ids) for ids in prompts]
    assert all(expected)
    assert quantize(str(layouts["rope_parameters"]), tmp_path / "ours", "8") == 0

    stored = [mx.load(str(tmp_path / name / "model.safetensors")) for name in ("ours", "theirs")]
    assert stored[0].keys() == stored[1].keys()
    assert all(mx.array_equal(stored[0][name], stored[1][name]) for name in stored[0])

    async def written() -> None:
        async with in_process(tmp_path / "ours", ALONE) as client:
            assert [tokens(await ask(client, request)) for request in chosen] == expected

    run(written())
