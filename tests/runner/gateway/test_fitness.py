"""What a model cannot do is refused before it is loaded, in every API."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from runner.errors import BadRequest
from runner.gateway.estimate import Need
from runner.gateway.fitness import check_native
from runner.gateway.resolver import ModelResolver, ResolvedModel
from runner.gateway.settings import Settings
from runner.inspect.sight import SPREAD
from runner.sources import ModelMode
from tests.models.encoders.checkpoints import stored, words
from tests.runner.gateway.live import Gateway
from tests.runner.pictures import sent, uri
from tests.toys import toy_text, toy_vision

USER = {"role": "user", "content": "a"}
SHOWN: dict[str, dict[str, Any]] = {
    "/completion": {"messages": [{**USER, "images": [sent(1)]}]},
    "/apply-template": {"messages": [{**USER}, {**USER, "images": [sent(1)]}]},
    "/api/chat": {"messages": [{**USER, "images": [sent(1)]}]},
    "/api/generate": {"prompt": "a", "images": [sent(1)]},
    "/v1/chat/completions": {
        "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": uri(1)}}]}]
    },
    "/v1/responses": {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": uri(1)}]}]},
    "/v1/messages": {
        "max_tokens": 4,
        "messages": [
            {
                "role": "user",
                "content": [
                    {
                        "type": "image",
                        "source": {"type": "base64", "media_type": "image/png", "data": sent(1)},
                    }
                ],
            }
        ],
    },
}
WRITTEN: dict[str, dict[str, Any]] = {
    "/completion": {"prompt": "a"},
    "/apply-template": {"messages": [USER]},
    "/api/chat": {"messages": [USER]},
    "/api/generate": {"prompt": "a"},
    "/v1/chat/completions": {"messages": [USER]},
    "/v1/completions": {"prompt": "a"},
    "/v1/responses": {"input": "a"},
    "/v1/responses/input_tokens": {"input": "a"},
    "/v1/messages": {"max_tokens": 4, "messages": [USER]},
    "/v1/messages/count_tokens": {"messages": [USER]},
}


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    embeds = words(stored("bert", tmp_path_factory.mktemp("encoder") / "toy"))
    with Gateway({"embeds": embeds, "writes": toy_text()}, memory=64 * 1024**3, force=True) as gateway:
        yield gateway


@pytest.mark.parametrize("path", SHOWN)
def test_pictures_for_a_model_that_reads_text(gateway: Gateway, path: str) -> None:
    for stream in (False, True):
        answer = gateway.http.post(path, json={"model": "writes", "stream": stream, **SHOWN[path]})
        assert (answer.status_code, "this model reads only text" in answer.text) == (400, True), answer.text
    assert gateway.models() == {}


@pytest.mark.parametrize("path", WRITTEN)
def test_texts_of_an_encoder(gateway: Gateway, path: str) -> None:
    answer = gateway.http.post(path, json={"model": "embeds", **WRITTEN[path]})
    assert answer.status_code == 400
    assert (
        "an encoder (bert), which makes vectors and cannot write text; use it with /v1/embeddings"
        in answer.text
    )
    assert gateway.models() == {}


def test_the_message_with_the_picture_is_named(gateway: Gateway) -> None:
    for path, at in (("/completion", 0), ("/apply-template", 1)):
        answer = gateway.http.post(path, json={"model": "writes", **SHOWN[path]})
        assert f"messages[{at}].images[0]: " in answer.text


def test_what_cannot_be_read_is_left_to_the_runner() -> None:
    model = ResolvedModel("m", "hf:m", ModelMode.TEXT, Need(1, 1, 1, 1), ())
    for raw in (
        b'{"messages": [{"images": 3}]}',
        b'{"messages": 3, "images": []}',
        b'{"messages": [{"images',
        b'{"messages": [{"images": []}]}',
        b'"images"' + b"[" * 100_000,
    ):
        check_native(model, "/completion", raw)
    with pytest.raises(BadRequest, match=r"messages\[1\]\.images\[0\]"):
        check_native(model, "/completion", b'{"messages": [{}, {"images": [3]}]}')
    check_native(replace(model, blind=""), "/completion", b'{"messages": [{}, {"images": [3]}]}')


@pytest.mark.parametrize(
    ("options", "blind"), [((), ""), (("--tensor-parallel", "2"), SPREAD), (("--tensor-parallel=1",), "")]
)
def test_a_model_that_is_spread_is_shown_no_pictures(options: tuple[str, ...], blind: str) -> None:
    settings = Settings(aliases={"sees": str(toy_vision())}, options=lambda model: options)
    assert asyncio.run(ModelResolver(settings).resolve("sees")).blind == blind
