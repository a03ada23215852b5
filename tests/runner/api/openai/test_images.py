"""Pictures by the real openai package, against a gateway over a toy that draws."""

import asyncio
import base64
import io
import json
import struct
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipelines.packing import read_recipe
from tests.runner.api.typed import checked
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

openai = pytest.importorskip("openai", reason="the clients group is not installed")

EXTRA = {"steps": 2, "seed": 7}


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE)


def draw(client: Any, extra: Any = EXTRA, **fields: Any) -> Any:
    return client.images.generate(
        **{"model": "klein", "prompt": "a boat", "size": "64x48", "extra_body": extra, **fields}
    )


def edit(client: Any, image: Any, extra: Any = EXTRA, **fields: Any) -> Any:
    return client.images.edit(
        **{
            "model": "klein",
            "image": image,
            "prompt": "at night",
            "size": "64x48",
            "extra_body": extra,
            **fields,
        }
    )


def opened(picture: Any) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(picture.b64_json)))


def photo(color: str = "teal") -> io.BytesIO:
    file = io.BytesIO()
    Image.new("RGB", (80, 64), color).save(file, "PNG")
    file.seek(0)
    file.name = "photo.png"
    return file


def hole(size: tuple[int, int] = (80, 64)) -> io.BytesIO:
    """A picture whose upper left quarter is transparent."""
    picture = Image.new("RGBA", size, "white")
    picture.paste((0, 0, 0, 0), (0, 0, size[0] // 2, size[1] // 2))
    file = io.BytesIO()
    picture.save(file, "PNG")
    file.seek(0)
    file.name = "hole.png"
    return file


def test_a_picture_is_drawn_and_says_its_seed(client: Any) -> None:
    answer = checked(draw(client))
    (picture,) = answer.data
    assert opened(picture).size == (64, 48)
    assert (answer.size, answer.output_format, answer.background, answer.quality) == (
        "64x48",
        "png",
        "opaque",
        "medium",
    )
    assert answer.usage.output_tokens == 4 * 3
    assert answer.seed == 7
    recipe = read_recipe(base64.b64decode(picture.b64_json))
    assert (recipe.seed, recipe.steps, recipe.prompt) == (7, 2, "a boat")
    assert draw(client).data[0].b64_json == picture.b64_json
    assert draw(client, extra={"steps": 2}).seed != 7


def test_several_pictures_and_formats(client: Any) -> None:
    answer = draw(client, n=2, output_format="webp")
    assert [opened(picture).format for picture in answer.data] == ["WEBP", "WEBP"]
    assert answer.data[0].b64_json != answer.data[1].b64_json
    fine = draw(client, output_format="jpeg", output_compression=95).data[0].b64_json
    coarse = draw(client, output_format="jpeg", output_compression=5).data[0].b64_json
    assert len(coarse) < len(fine)


@pytest.mark.parametrize(("quality", "steps"), [("low", 2), ("auto", 4), ("hd", 6), ("max", 12)])
def test_quality_is_a_share_of_the_models_own_steps(client: Any, quality: str, steps: int) -> None:
    picture = draw(client, extra={"seed": 1}, quality=quality).data[0]
    assert read_recipe(base64.b64decode(picture.b64_json)).steps == steps


def test_an_address_serves_the_picture_for_a_while(client: Any, gateway: Gateway) -> None:
    url = draw(client, response_format="url").data[0].url
    assert url.startswith(gateway.url)
    answer = gateway.http.get(url)
    assert answer.headers["content-type"] == "image/png"
    assert Image.open(io.BytesIO(answer.content)).size == (64, 48)
    gone = gateway.http.get(f"{gateway.url}/v1/images/files/nothing.png")
    assert gone.status_code == 404
    assert "10 minutes" in gone.json()["error"]["message"]


@pytest.mark.parametrize("partial", [0, 1, 3])
def test_a_stream_shows_the_picture_on_its_way(client: Any, partial: int) -> None:
    events = [
        checked(event)
        for event in draw(client, extra={"steps": 4, "seed": 7}, stream=True, partial_images=partial)
    ]
    *ways, last = events
    assert [event.type for event in ways] == ["image_generation.partial_image"] * partial
    assert [event.partial_image_index for event in ways] == list(range(partial))
    assert all(opened(event).format == "PNG" for event in ways)
    assert last.type == "image_generation.completed"
    assert opened(last).size == (64, 48)
    assert last.usage.output_tokens == 12
    assert last.b64_json == draw(client, extra={"steps": 4, "seed": 7}).data[0].b64_json


def test_the_asynchronous_client_gets_the_same(client: Any, gateway: Gateway) -> None:
    async def main() -> tuple[Any, list[Any]]:
        other = openai.AsyncOpenAI(
            base_url=f"{gateway.url}/v1", api_key="none", max_retries=0, timeout=PATIENCE
        )
        whole = await draw(other)
        events = [event async for event in await draw(other, stream=True, partial_images=1)]
        return whole, events

    whole, events = asyncio.run(main())
    assert whole.data[0].b64_json == draw(client).data[0].b64_json == events[-1].b64_json


# -- edits


def test_a_picture_is_edited_however_it_is_sent(client: Any, gateway: Gateway) -> None:
    answer = checked(edit(client, photo()))
    assert opened(answer.data[0]).size == (64, 48)
    assert answer.seed == 7
    listed = edit(client, [photo()])
    assert listed.data[0].b64_json == answer.data[0].b64_json
    uri = f"data:image/png;base64,{base64.b64encode(photo().read()).decode()}"
    body = {"model": "klein", "prompt": "at night", "size": "64x48", **EXTRA}
    for images in ({"image": uri}, {"image": [uri]}, {"images": [{"image_url": uri}]}):
        response = gateway.http.post("/v1/images/edits", json={**body, **images})
        assert response.json()["data"][0]["b64_json"] == answer.data[0].b64_json
    assert edit(client, photo("red")).data[0].b64_json != answer.data[0].b64_json
    assert edit(client, [photo(), photo("red")]).data[0].b64_json != answer.data[0].b64_json


def test_a_mask_leaves_the_rest_of_the_picture_as_it_was(client: Any, gateway: Gateway) -> None:
    answer = checked(edit(client, photo(), mask=hole(), size="auto"))
    made = opened(answer.data[0])
    assert answer.size == "80x64"
    kept = np.ones((64, 80), np.bool_)
    kept[:32, :40] = False
    assert (np.asarray(made)[kept] == np.asarray(Image.open(photo()))[kept]).all()
    assert np.asarray(made)[~kept].std() > 1
    uri, mask = (
        f"data:image/png;base64,{base64.b64encode(file.read()).decode()}" for file in (photo(), hole())
    )
    body = {"model": "klein", "prompt": "at night", **EXTRA, "images": [{"image_url": uri}]}
    for sent in (mask, {"image_url": mask}):
        response = gateway.http.post("/v1/images/edits", json={**body, "mask": sent})
        assert response.json()["data"][0]["b64_json"] == answer.data[0].b64_json


def test_an_edit_without_a_size_keeps_the_pictures_shape(client: Any) -> None:
    small = client.images.edit(
        model="klein", image=photo(), prompt="at night", extra_body={"steps": 1, "seed": 1}
    )
    width, height = opened(small.data[0]).size
    assert width / height == pytest.approx(80 / 64, rel=0.05)


def test_an_edit_streams_under_its_own_names(client: Any) -> None:
    *ways, last = [checked(event) for event in edit(client, photo(), stream=True, partial_images=1)]
    assert [event.type for event in ways] == ["image_edit.partial_image"]
    assert last.type == "image_edit.completed"


# -- what cannot be done


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": "transparent"}, "background"),
        ({"size": "huge"}, "size"),
        ({"size": "9000x9000"}, "size"),
        ({"output_format": "gif"}, "output_format"),
        ({"n": 11}, "n"),
        ({"prompt": ""}, "prompt"),
        ({"partial_images": 2}, "partial_images"),
        ({"extra": {"steps": 5000}}, "steps"),
        ({"extra": {"strength": 0.5}}, "strength"),
    ],
)
def test_what_cannot_be_drawn_is_refused_by_name(client: Any, fields: Any, param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        draw(client, **fields)
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_masks_urls_and_what_is_no_picture_are_refused(client: Any, gateway: Gateway) -> None:
    with pytest.raises(
        openai.BadRequestError, match="mask: it is 80 x 64, and the first picture is 40 x 64"
    ) as caught:
        edit(client, hole(size=(40, 64)), mask=hole())
    assert caught.value.param == "mask"
    with pytest.raises(openai.BadRequestError, match="it belongs to a picture"):
        draw(client, extra={"mask": "x"})
    with pytest.raises(openai.BadRequestError, match="mask: URLs are not fetched"):
        edit(client, photo(), extra={"mask": "https://example.org/a.png"})
    with pytest.raises(openai.BadRequestError) as caught:
        edit(client, io.BytesIO(b"no picture"))
    assert caught.value.param == "image"
    body = {"model": "klein", "prompt": "x", "image": "https://example.org/a.png"}
    refused = gateway.http.post("/v1/images/edits", json=body)
    assert refused.status_code == 400
    assert "not fetched" in refused.json()["error"]["message"]
    with pytest.raises(openai.BadRequestError, match="writes text"):
        draw(client, model="toy")


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=x", b""),
        ("multipart/form-data; boundary=x", b"--y\r\n\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nnever ends'),
        ("multipart/form-data; boundary=x", b"--x\r\n\r\nnameless\r\n--x--\r\n"),
        ("multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\n\xff\xfe\r\n--x--\r\n'),
        ("application/json", b"{}"),
        ("", b""),
    ],
)  # fmt: skip
def test_forms_that_are_none_are_400s(gateway: Gateway, content_type: str, body: bytes) -> None:
    answer = gateway.http.post("/v1/images/edits", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["type"] == "invalid_request_error"


def test_a_picture_too_large_to_read_is_a_413(gateway: Gateway) -> None:
    head = b'--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'
    body = head + struct.pack("B", 0) * (129 * 1024**2)
    answer = gateway.http.post(
        "/v1/images/edits", content=body, headers={"content-type": "multipart/form-data; boundary=x"}
    )
    assert answer.status_code == 413
    assert answer.json()["error"]["code"] == "request_too_large"


def test_adapters_are_fields_of_our_own(client: Any) -> None:
    loras = [{"name": "ink", "scale": 0.8}]
    (plain,), (inked,) = draw(client).data, draw(client, {**EXTRA, "loras": loras}).data
    assert plain.b64_json != inked.b64_json
    (lora,) = read_recipe(base64.b64decode(inked.b64_json)).loras or ()
    assert (lora.name, lora.scale) == ("ink", 0.8)
    (tagged,) = draw(client, {**EXTRA, "lora_tags": True}, prompt="a boat <lora:ink:0.8>").data
    assert tagged.b64_json == inked.b64_json
    edited = edit(client, photo(), {**EXTRA, "loras": json.dumps(loras)}).data[0]
    assert read_recipe(base64.b64decode(edited.b64_json)).loras == (lora,)


def test_an_unknown_adapter_is_not_found(client: Any) -> None:
    with pytest.raises(openai.NotFoundError, match="there is no adapter 'inc'; did you mean ink"):
        draw(client, {**EXTRA, "loras": [{"name": "inc"}]})
    with pytest.raises(openai.BadRequestError, match="loras: 'ink' is not JSON"):
        edit(client, photo(), {**EXTRA, "loras": "ink"})
