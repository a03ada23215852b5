"""Whatever stands in a field: an answer or a refusal in OpenAI's shape, never a fault of the gateway's."""

import json
from typing import Any

import pytest

from tests.runner.fuzzing import no_fault, strange_bodies
from tests.runner.gateway.live import Gateway

REQUESTS: dict[str, tuple[dict[str, Any], str]] = {
    "/v1/chat/completions": (
        {"model": "toy", "messages": [{"role": "user", "content": "x"}], "max_completion_tokens": 2},
        "messages n stream stop seed logprobs top_logprobs max_tokens logit_bias response_format tools tool_choice model keep_alive stream_options reasoning_effort temperature top_p top_k min_p repeat_penalty think priority chat_template_kwargs modalities parallel_tool_calls",
    ),
    "/v1/completions": (
        {"model": "toy", "prompt": "x", "max_tokens": 2},
        "prompt n stream echo logprobs suffix best_of seed stop priority model",
    ),
    "/v1/embeddings": ({"model": "toy", "input": "x"}, "input dimensions encoding_format model"),
    "/v1/responses": (
        {"model": "toy", "input": "x", "max_output_tokens": 2},
        "input instructions tools tool_choice text reasoning include stream metadata top_logprobs seed",
    ),
    "/v1/images/generations": (
        {"model": "klein", "prompt": "x", "size": "64x64", "steps": 1},
        "prompt size n quality stream partial_images seed steps guidance strength negative_prompt response_format output_format output_compression",
    ),
    "/v1/images/edits": (
        {"model": "klein", "prompt": "x", "size": "64x64", "steps": 1, "image": "data:image/png;base64,AAAA"},
        "image images prompt mask",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("path", REQUESTS)
def test_strange_values_are_refused_in_the_usual_shape(gateway: Gateway, path: str) -> None:
    for body in strange_bodies(*REQUESTS[path]):
        answer = gateway.http.post(path, content=json.dumps(body))
        shown = (body, answer.status_code, answer.text[:300])
        assert no_fault(answer.status_code), shown
        if answer.status_code >= 400:
            assert answer.json()["error"].keys() == {"message", "type", "param", "code"}, shown
