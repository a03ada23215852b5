"""Answers held to a form, in the terms of OpenAI, vLLM and llama.cpp; and other fields of these."""

import json
from typing import Any

import pytest

from tests.runner.api.openai.test_chat import LOOK, chat
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

SCHEMA = {"type": "object", "properties": {"open": {"type": "boolean"}}, "required": ["open"]}
GRAMMAR = 'root ::= ("sea" | "land") "!"'


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def said(client: Any, **fields: Any) -> str:
    (choice,) = checked(chat(client, max_completion_tokens=100, **fields)).choices
    assert choice.finish_reason == "stop"
    return str(choice.message.content)


@pytest.mark.parametrize(
    "fields",
    [
        {"response_format": {"type": "json_object", "schema": SCHEMA}},
        {"response_format": {"type": "json_schema", "schema": SCHEMA}},
        {"extra_body": {"json_schema": SCHEMA}},
        {"extra_body": {"guided_json": json.dumps(SCHEMA)}},
        {"extra_body": {"structured_outputs": {"json": SCHEMA}}},
    ],
)
def test_a_schema_is_obeyed_wherever_clients_put_it(client: Any, fields: Any) -> None:
    assert json.loads(said(client, **fields)).keys() == {"open"}


@pytest.mark.parametrize(
    "form",
    [
        {"grammar": GRAMMAR},
        {"grammar": 'start: ("sea" | "land") "!"'},
        {"guided_grammar": GRAMMAR},
        {"guided_regex": "(sea|land)!"},
        {"guided_choice": ["sea!", "land!"]},
        {"structured_outputs": {"regex": "(sea|land)!"}},
        {"structured_outputs": {"choice": ["sea!", "land!"]}},
        {"structured_outputs": {"grammar": GRAMMAR}},
    ],
)
def test_grammars_expressions_and_choices_are_obeyed_also_beside_tools(client: Any, form: Any) -> None:
    assert said(client, extra_body=form) in ("sea!", "land!")
    assert said(client, tools=[LOOK], extra_body=form) in ("sea!", "land!")


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"grammar": "sea"}, "grammar"),
        ({"grammar": 'start: unheard "x"'}, "grammar"),
        ({"guided_regex": "("}, "grammar"),
        ({"guided_choice": []}, "choice"),
        ({"guided_json": "{"}, "guided_json"),
        ({"json_schema": {"type": "nonsense"}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": {"type": "nonsense"}}}, "response_format"),
        ({"response_format": {"type": "json_object", "schema": 3}}, "response_format.schema"),
        ({"grammar": GRAMMAR, "guided_regex": "a"}, "guided_regex"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_k": -2}, "top_k"),
    ],
)
def test_forms_that_cannot_be_kept_are_refused_by_name(client: Any, form: Any, param: str) -> None:
    for tools in ([], [LOOK]):
        with pytest.raises(openai.BadRequestError) as caught:
            chat(client, tools=tools, extra_body=form)
        assert caught.value.param == param, caught.value


def test_minus_one_is_no_limit(client: Any) -> None:
    limits = {"top_k": -1, "max_tokens": -1}
    assert said(client, extra_body={**limits, "guided_regex": "a{40}"}) == "a" * 40


def test_the_end_of_a_text_can_be_ignored(calling: Gateway) -> None:
    client = openai.OpenAI(base_url=f"{calling.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    assert chat(client, model="told", max_completion_tokens=9).usage.completion_tokens < 9
    answer = chat(client, model="told", max_completion_tokens=9, extra_body={"ignore_eos": True})
    assert answer.usage.completion_tokens == 9


def test_a_name_may_carry_ollamas_tag_and_answers_a_fingerprint(client: Any) -> None:
    answer = chat(client, model="toy:latest")
    assert answer.choices[0].message.content == chat(client).choices[0].message.content
    assert answer.system_fingerprint.startswith("fp_")
    assert client.models.retrieve("toy:latest").id == "toy"


def test_an_unknown_model_is_not_found_while_the_hub_is_switched_off(client: Any) -> None:
    for name in ("nobody", "nobody/nothing", "nobody/nothing:latest"):
        with pytest.raises(openai.NotFoundError) as caught:
            chat(client, model=name)
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
