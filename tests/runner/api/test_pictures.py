"""Chats with pictures in every API, by the real clients where they are installed."""

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from tests.optional import needed
from tests.runner.gateway.live import Gateway
from tests.runner.pictures import encoded, noise, sent, uri
from tests.toys import toy_text, toy_vision
from tests.waiting import PATIENCE

ASK = "What is it?"


@pytest.fixture(scope="module")
def gateway() -> Iterator[Gateway]:
    folders = {"sees": toy_vision(), "toy": toy_text()}
    with Gateway(folders, pretend=False, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


def native(gateway: Gateway, *images: str, text: str = ASK, tokens: int = 8) -> dict[str, Any]:
    message = {"role": "user", "content": text, **({"images": list(images)} if images else {})}
    body = {"model": "sees", "messages": [message], "options": {"num_predict": tokens}, "stream": False}
    answer = gateway.http.post("/completion", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def test_every_api_shows_the_same_picture_to_the_model(gateway: Gateway) -> None:
    expected = native(gateway, sent(1))
    greedy = {"num_predict": 8, "temperature": 0}
    seen = [{"type": "input_image", "image_url": uri(1)}, {"type": "input_text", "text": ASK}]
    source = {"type": "base64", "media_type": "image/png", "data": sent(1)}
    requests: dict[str, tuple[dict[str, Any], Any]] = {
        "/v1/chat/completions": (
            {"messages": [{"role": "user", "content": shown(uri(1))}], "temperature": 0, "max_tokens": 8},
            lambda answer: answer["choices"][0]["message"]["content"],
        ),
        "/v1/responses": (
            {"input": [{"role": "user", "content": seen}], "temperature": 0, "max_output_tokens": 8, "store": False},
            lambda answer: answer["output"][-1]["content"][0]["text"],
        ),
        "/v1/messages": (
            {"messages": [{"role": "user", "content": [{"type": "image", "source": source}, {"type": "text", "text": ASK}]}],
             "temperature": 0, "max_tokens": 8},
            lambda answer: answer["content"][0]["text"],
        ),
        "/api/chat": (
            {"messages": [{"role": "user", "content": ASK, "images": [sent(1)]}], "options": greedy, "stream": False},
            lambda answer: answer["message"]["content"],
        ),
        "/api/generate": (
            {"prompt": ASK, "images": [sent(1)], "options": greedy, "stream": False},
            lambda answer: answer["response"],
        ),
    }  # fmt: skip
    for path, (body, text) in requests.items():
        answer = gateway.http.post(path, json={"model": "sees", **body})
        assert answer.status_code == 200, (path, answer.text)
        assert text(answer.json()) == expected["content"], path


def shown(*pictures: str, text: str = ASK) -> list[dict[str, Any]]:
    """The content of a message to OpenAI's API."""
    return [
        *({"type": "image_url", "image_url": {"url": one}} for one in pictures),
        {"type": "text", "text": text},
    ]


def test_the_openai_client_shows_pictures_and_counts_them(gateway: Gateway) -> None:
    openai = needed("openai", "the clients group is not installed")
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)
    fields = {"model": "sees", "temperature": 0, "max_completion_tokens": 8}
    asked = [{"role": "user", "content": shown(uri(2), uri(3))}]
    answer = client.chat.completions.create(messages=asked, **fields)
    expected = native(gateway, sent(2), sent(3))
    assert answer.choices[0].message.content == expected["content"]
    assert answer.usage.prompt_tokens == expected["prompt_eval_count"]
    again = client.chat.completions.create(messages=asked, **fields, n=2)
    assert {choice.message.content for choice in again.choices} == {expected["content"]}
    assert again.usage.prompt_tokens_details.cached_tokens > 0
    pieces = client.chat.completions.create(messages=asked, **fields, stream=True)
    assert (
        "".join(piece.choices[0].delta.content or "" for piece in pieces if piece.choices)
        == expected["content"]
    )
    low = [
        {"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri(2), "detail": "low"}}]}
    ]
    assert client.chat.completions.create(messages=low, **fields).choices
    assert client.models.retrieve("sees").capabilities == ["completion", "vision"]


def test_the_ollama_client_shows_pictures(gateway: Gateway) -> None:
    ollama = needed("ollama", "the clients group is not installed")
    client = ollama.Client(host=gateway.url, timeout=PATIENCE)
    expected = native(gateway, sent(4))["content"]
    greedy = {"num_predict": 8, "temperature": 0}
    message = {"role": "user", "content": ASK, "images": [base64.b64decode(sent(4))]}
    lines = client.chat("sees", [message], options=greedy, stream=True)
    assert "".join(line.message.content for line in lines) == expected
    assert client.generate("sees", ASK, images=[sent(4)], options=greedy).response == expected
    assert client.show("sees").capabilities == ["completion", "vision"]


REFUSED: dict[str, list[dict[str, Any]]] = {
    "messages[0].content[0].image_url: URLs are not fetched": shown("https://example.com/a.png"),
    "messages[0].content[0].image_url: URLs are not": shown("file:///etc/passwd"),
    "messages[0].content[0].image_url: a data URI of the form": shown("iVBORw0KGgo="),
    "messages[0].content[0].image_url: video/mp4 is not supported": shown("data:video/mp4;base64,AAAA"),
    "messages[0].images[0]: the picture is not valid base64": shown("data:image/png;base64,!!!"),
    "messages[0].images[0]: the picture is an SVG": shown(
        f"data:image/svg+xml;base64,{base64.b64encode(b'<svg/>').decode()}"
    ),
    "no sound, video or files": [{"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}],
    "'video_url' is not supported": [
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}}
    ],
    "messages[0].content[0].image_url is missing": [{"type": "image_url"}],
    "files are not kept": [{"type": "input_image", "file_id": "file-1"}],
    "messages[0].content[0].detail: 'huge' is not allowed": [
        {"type": "image_url", "image_url": {"url": uri(1), "detail": "huge"}}
    ],
    "messages[0].content[0].image_url: 5 is not allowed": [{"type": "image_url", "image_url": 5}],
    "at most 10 items": shown(*[uri(1)] * 100),
}


@pytest.mark.parametrize("words", REFUSED)
def test_what_is_no_picture_is_refused_and_the_model_lives(gateway: Gateway, words: str) -> None:
    for stream in (False, True):
        body = {"model": "sees", "messages": [{"role": "user", "content": REFUSED[words]}], "stream": stream}
        answer = gateway.http.post("/v1/chat/completions", json=body)
        assert answer.status_code == 400, answer.text
        assert words in answer.json()["error"]["message"]


def test_a_model_that_reads_only_text_refuses_pictures_in_every_api(gateway: Gateway) -> None:
    message = {"role": "user", "content": ASK, "images": [sent(1)]}
    source = {"type": "base64", "media_type": "image/png", "data": sent(1)}
    anthropic = {"messages": [{"role": "user", "content": [{"type": "image", "source": source}]}]}
    requests = {
        "/v1/chat/completions": {"messages": [{"role": "user", "content": shown(uri(1))}]},
        "/v1/responses": {
            "input": [{"role": "user", "content": [{"type": "input_image", "image_url": uri(1)}]}]
        },
        "/api/chat": {"messages": [message]},
        "/api/generate": {"prompt": ASK, "images": [sent(1)]},
        "/completion": {"messages": [message]},
    }
    assert (
        gateway.http.post("/v1/messages", json={"model": "toy", "max_tokens": 4, **anthropic}).status_code
        == 400
    )
    for path, body in requests.items():
        answer = gateway.http.post(path, json={"model": "toy", **body})
        assert (answer.status_code, "this model reads only text" in answer.text) == (400, True), (
            path,
            answer.text,
        )
    assert toy_text().name not in gateway.models()  # it is not loaded to be asked


@pytest.mark.reference
def test_answers_over_http_equal_those_of_transformers_alone_and_in_company(gateway: Gateway) -> None:
    needed("torch", "compares with transformers, which needs the group reference")
    cases: list[tuple[str, list[tuple[int, int, int]]]] = [
        (ASK, []),
        (ASK, [(1, 40, 30)]),
        ("What are these, and which is larger?", [(2, 61, 37), (3, 25, 90)]),
    ]
    bodies = [
        (text, [sent(seed, (width, height)) for seed, width, height in pictures]) for text, pictures in cases
    ]
    expected = [_transformers(text, pictures) for text, pictures in cases]
    assert [native(gateway, *images, text=text, tokens=10)["tokens"] for text, images in bodies] == expected

    async def together() -> list[list[int]]:
        async with gateway.client() as client:
            answers = await asyncio.gather(
                *(_post(client, *body) for body in [*bodies, ("Some text.", []), *bodies])
            )
            return answers[:3] + answers[4:]

    assert asyncio.run(together()) == expected * 2


async def _post(client: httpx2.AsyncClient, text: str, images: list[str]) -> list[int]:
    message = {"role": "user", "content": text, **({"images": images} if images else {})}
    body = {"model": "sees", "messages": [message], "options": {"num_predict": 10}, "stream": False}
    tokens: list[int] = (await client.post("/completion", json=body)).json()["tokens"]
    return tokens


def _transformers(text: str, pictures: list[tuple[int, int, int]]) -> list[int]:
    """What transformers' own template, processor and model write, greedily."""
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    from tests.models.vision.processors import image_processor
    from tests.models.vision.vision_cases import CASES

    tokenizer = AutoTokenizer.from_pretrained(toy_vision())
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(toy_vision(), dtype=torch.float32).eval()
    content = [*({"type": "image"} for _ in pictures), {"type": "text", "text": text}]
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": content if pictures else text}],
        tokenize=False,
        add_generation_prompt=True,
    )
    prepared: dict[str, Any] = {}
    if pictures:
        images = [noise(seed, (width, height)) for seed, width, height in pictures]
        prepared = dict(image_processor(CASES["qwen2.5-vl"])(images, return_tensors="pt"))
        before, *parts = prompt.split("<|image_pad|>")
        rows = [int(np.prod(grid)) // 4 for grid in prepared["image_grid_thw"].tolist()]
        prompt = before + "".join(
            "<|image_pad|>" * count + part for count, part in zip(rows, parts, strict=True)
        )
    ids = tokenizer(prompt, add_special_tokens=False, return_tensors="pt").input_ids
    if pictures:
        prepared["mm_token_type_ids"] = (ids == model.config.image_token_id).long()
    with torch.no_grad():
        written = model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            **prepared,
            max_new_tokens=10,
            do_sample=False,
            pad_token_id=0,
        )
    tokens: list[int] = written[0, ids.shape[1] :].tolist()
    return tokens


def test_a_large_photograph_is_read(gateway: Gateway) -> None:
    picture = encoded(noise(1, (1200, 900)), "JPEG")
    assert native(gateway, picture)["prompt_eval_count"] > 20
