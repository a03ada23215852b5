"""Log probabilities of prompts, as lm-eval's loglikelihood and clients of vLLM ask for them; the best of several texts.

The first token of a prompt has none, at OpenAI too: its package's type is narrower than its answers were.
"""

from typing import Any

import pytest

from tests.runner.api.openai.test_chat import complete
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def ids(gateway: Gateway, text: str) -> list[int]:
    tokens: list[int] = gateway.http.post("/tokenize", json={"model": "toy", "content": text}).json()[
        "tokens"
    ]
    return tokens


@pytest.fixture
def written(gateway: Gateway) -> tuple[list[int], list[int], list[float]]:
    """A prompt's tokens, those of a text that follows, and the latter's log probabilities."""
    body = {
        "model": "toy",
        "prompt": "The sea",
        "logprobs": True,
        "options": {"num_predict": 160},
        "stream": False,
    }
    answer = gateway.http.post("/completion", json=body).json()
    return ids(gateway, "The sea"), answer["tokens"], [token["logprob"] for token in answer["logprobs"]]


def test_a_prompt_has_the_log_probabilities_that_it_was_written_with(client: Any, written: Any) -> None:
    prompt, tokens, logprobs = written
    (choice,) = complete(client, prompt=prompt + tokens, echo=True, logprobs=1, max_tokens=1).choices
    legacy = choice.logprobs
    assert len(legacy.tokens) == len(prompt) + len(tokens) + 1
    assert (legacy.token_logprobs[0], legacy.top_logprobs[0]) == (None, None)
    assert legacy.token_logprobs[len(prompt) : -1] == pytest.approx(logprobs, abs=1e-3)
    end = slice(len(prompt), -1)
    for logprob, top in zip(legacy.token_logprobs[end], legacy.top_logprobs[end], strict=True):
        assert list(top.values()) == pytest.approx([logprob], abs=1e-3), "the toy writes what is likeliest"
    for token, offset in zip(legacy.tokens, legacy.text_offset, strict=True):
        assert "\ufffd" in token or choice.text[offset:].startswith(token)


def test_several_prompts_are_scored_as_lm_eval_sends_them(client: Any, gateway: Gateway) -> None:
    prompts = [ids(gateway, text) for text in ("The sea is blue", "The sea is a boat", "x y")]
    fields: Any = {
        "prompt": prompts,
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    answer = complete(client, **fields)
    for choice, prompt in zip(answer.choices, prompts, strict=True):
        likelihoods = choice.logprobs.token_logprobs[1:-1]
        assert len(likelihoods) == len(prompt) - 1
        assert all(value < 0 for value in likelihoods)
    chunks = [chunk.choices[0] for chunk in complete(client, **fields, stream=True)]
    for choice in answer.choices:
        own = [chunk for chunk in chunks if chunk.index == choice.index]
        assert "".join(chunk.text for chunk in own) == choice.text
        streamed = [value for chunk in own if chunk.logprobs for value in chunk.logprobs.token_logprobs]
        assert streamed == pytest.approx(choice.logprobs.token_logprobs, abs=1e-4)


def test_a_prompt_is_scored_without_writing_more(client: Any) -> None:
    answer = complete(client, prompt="The sea", echo=True, logprobs=0, max_tokens=0)
    (choice,) = answer.choices
    assert (choice.text, choice.finish_reason) == ("The sea", "length")
    assert len(choice.logprobs.tokens) == answer.usage.prompt_tokens == answer.usage.total_tokens


def test_prompt_logprobs_have_vllms_shape(client: Any, gateway: Gateway) -> None:
    answer = complete(client, max_tokens=1, extra_body={"prompt_logprobs": 2})
    first, *others = answer.choices[0].prompt_logprobs
    tokens = ids(gateway, "The sea")
    assert first is None
    assert len(others) == len(tokens) - 1
    for id, one in zip(tokens[1:], others, strict=True):
        assert one[str(id)]["logprob"] < 0
        assert len(one) in (2, 3)
        assert {1, 2} <= {token["rank"] for token in one.values()}


def test_token_ids_and_texts_may_be_mixed_in_one_prompt(client: Any, gateway: Gateway) -> None:
    whole = complete(client, prompt=ids(gateway, "The") + ids(gateway, " sea"))
    mixed = complete(client, prompt=["The", *ids(gateway, " sea")], echo=True)
    assert mixed.usage.prompt_tokens == whole.usage.prompt_tokens
    assert mixed.choices[0].text == "The sea" + whole.choices[0].text
    several = complete(client, prompt=[["The", *ids(gateway, " sea")], "The land"])
    assert several.choices[0].text == whole.choices[0].text
    with pytest.raises(openai.BadRequestError) as caught:
        complete(client, prompt=[3, [4]])
    assert caught.value.param == "prompt"


def test_the_best_of_several_texts_is_the_likeliest(client: Any) -> None:
    every = complete(client, n=4, logprobs=0)
    means = [sum(choice.logprobs.token_logprobs) / 8 for choice in every.choices]
    likeliest = sorted(every.choices, key=lambda choice: -means[choice.index])
    answer = checked(complete(client, n=2, best_of=4))
    assert [choice.text for choice in answer.choices] == [choice.text for choice in likeliest[:2]]
    assert answer.usage.completion_tokens == 32
    for fields in ({"best_of": 1, "n": 2}, {"best_of": 2, "stream": True}):
        with pytest.raises(openai.BadRequestError) as caught:
            complete(client, **fields)
        assert caught.value.param == "best_of"
