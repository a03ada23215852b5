"""AUTOMATIC1111's API, asked as its clients ask: a gateway over a toy that draws, and one over runners that pretend."""

import base64
import json
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx2
import pytest

from pipelines.packing import read_recipe
from pipelines.recipe import Recipe
from pipelines.variations import Variation
from runner.api.automatic1111.png_text import png_texts
from runner.api.automatic1111.requests import Img2Img, Txt2Img, engine_request, ignored
from runner.errors import BadRequest
from runner.protocol.text import parse
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE, wait_until

# As Open WebUI's engine and SillyTavern's server send them.
OPEN_WEBUI: Any = {"prompt": "a red circle", "batch_size": 1, "width": 64, "height": 32, "steps": 1}
SILLY_TAVERN: Any = {
    "prompt": "a red circle", "negative_prompt": "", "sampler_name": "Euler a", "scheduler": "Automatic", "steps": 1,
    "cfg_scale": 1, "width": 32, "height": 32, "restore_faces": False, "enable_hr": False, "hr_upscaler": "None",
    "hr_scale": 2, "denoising_strength": 0.7, "hr_second_pass_steps": 0, "seed": 7, "clip_skip": 1,
    "override_settings": {"CLIP_stop_at_last_layers": 1}, "override_settings_restore_afterwards": True,
    "do_not_save_samples": True, "save_images": True, "send_images": True, "do_not_save_grid": True, "save_grid": False,
}  # fmt: skip


def sdapi(gateway: Gateway, method: str, path: str, **body: Any) -> Any:
    answer = gateway.http.request(method, f"/sdapi/v1/{path}", json=body or None)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_open_webui_finds_a_model_chooses_it_and_draws(gateway: Gateway) -> None:
    (model,) = [one["title"] for one in sdapi(gateway, "GET", "sd-models")]
    assert model == "klein"
    sdapi(gateway, "POST", "options", sd_model_checkpoint=model)
    assert sdapi(gateway, "GET", "options")["sd_model_checkpoint"] == model
    drawn = sdapi(gateway, "POST", "txt2img", **OPEN_WEBUI)
    (image,) = drawn["images"]
    data = base64.b64decode(image)
    assert data.startswith(b"\x89PNG")
    info = json.loads(drawn["info"])
    assert (info["width"], info["height"], len(info["all_seeds"])) == (64, 32, 1)
    shown = sdapi(gateway, "POST", "png-info", image=f"data:image/png;base64,{image}")
    assert "a red circle" in shown["info"]
    assert f"Seed: {info['seed']}" in shown["info"]


def test_silly_tavern_asks_for_lists_draws_and_polls(gateway: Gateway) -> None:
    assert sdapi(gateway, "GET", "samplers")[0]["name"] == "Euler"
    assert sdapi(gateway, "GET", "schedulers")[0]["label"] == "Automatic"
    assert sdapi(gateway, "GET", "upscalers")[0]["name"] == "None"
    assert [lora["name"] for lora in sdapi(gateway, "GET", "loras")] == ["ink"]
    for empty in ("sd-vae", "latent-upscale-modes"):
        assert sdapi(gateway, "GET", empty) == []
    first, second = (sdapi(gateway, "POST", "txt2img", **SILLY_TAVERN) for _ in range(2))
    assert first["images"] == second["images"]
    info = json.loads(first["info"])
    assert info["seed"] == 7
    assert any("Euler a" in warning for warning in info["warnings"])
    progress = sdapi(gateway, "GET", "progress")
    assert (progress["progress"], progress["state"]["job_count"]) == (0.0, 0)


def test_a_picture_is_drawn_over_where_its_mask_is_white(gateway: Gateway) -> None:
    picture = sdapi(gateway, "POST", "txt2img", **OPEN_WEBUI | {"seed": 1})["images"][0]
    fields: Any = {**OPEN_WEBUI, "seed": 2, "init_images": [picture], "denoising_strength": 0.9}
    whole = sdapi(gateway, "POST", "img2img", **fields)
    assert len(whole["images"]) == 1
    assert whole["images"] != [picture]
    answer = gateway.http.post("/sdapi/v1/img2img", json=fields | {"mask": "no picture"})
    assert answer.status_code == 400
    assert "mask" in answer.json()["error"]


def test_a_long_drawing_tells_how_far_it_is_and_is_interrupted(gateway: Gateway) -> None:
    sdapi(gateway, "POST", "options", live_previews_enable=True)
    with ThreadPoolExecutor() as pool:
        drawing = pool.submit(sdapi, gateway, "POST", "txt2img", **OPEN_WEBUI | {"steps": 500})
        began = wait_until(lambda: running(sdapi(gateway, "GET", "progress")))
        assert began["state"]["sampling_steps"] == 500
        sdapi(gateway, "POST", "interrupt")
        assert drawing.result(PATIENCE)["images"] == []
    assert sdapi(gateway, "GET", "progress")["progress"] == 0
    sdapi(gateway, "POST", "options", live_previews_enable=False)


def running(progress: Any) -> Any:
    return progress if 0 < progress["progress"] < 1 else None


def test_openai_clients_draw_variations(gateway: Gateway) -> None:
    openai = pytest.importorskip("openai", reason="the clients group is not installed")
    client = openai.OpenAI(base_url=f"{gateway.url}/v1", api_key="none", max_retries=0)
    picture = base64.b64decode(sdapi(gateway, "POST", "txt2img", **OPEN_WEBUI | {"height": 64})["images"][0])
    fields: Any = {"model": "klein", "n": 2, "size": "32x32", "response_format": "b64_json"}
    drawn = client.images.create_variation(image=("a.png", picture), **fields, extra_body={"steps": 1})
    assert len(drawn.data) == 2
    with pytest.raises(openai.BadRequestError, match="image is missing"):
        client.post("/images/variations", body={"model": "klein"}, cast_to=object)


def test_what_is_wrong_is_named_as_it_was_sent(gateway: Gateway) -> None:
    for fields, name in (
        ({"prompt": ""}, "prompt"),
        ({"width": 10**6}, "width"),
        ({"cfg_scale": 1e9}, "cfg_scale"),
        ({"batch_size": 10**6}, "batch_size"),
        ({"seed": "x"}, "seed"),
        ({"override_settings": {"sd_model_checkpoint": "toy"}}, "model"),
    ):
        answer = gateway.http.post("/sdapi/v1/txt2img", json={**OPEN_WEBUI, **fields})
        assert answer.status_code == 400, answer.text
        assert answer.json()["error"].startswith(name), answer.text
    wrong = gateway.http.post("/sdapi/v1/options", json={"sd_model_checkpoint": "nobody"})
    assert "klein" in wrong.json()["error"]


def test_fields_are_translated() -> None:
    body: Any = {
        **SILLY_TAVERN,
        "prompt": "a ship <lora:sea:0.5> at sea",
        "n_iter": 2,
        "batch_size": 2,
        "enable_hr": True,
    }
    request = engine_request(parse(Txt2Img, body), 0)
    assert (request.prompt, request.n, request.guidance, request.seeds) == (
        "a ship  at sea",
        1,
        1,
        (7, 8, 9, 10),
    )
    assert [(lora.name, lora.scale) for lora in request.loras or ()] == [("sea", 0.5)]
    assert [warning.split()[0] for warning in ignored(body)] == ["enable_hr", "sampler_name:"]
    picture: Any = {
        "prompt": "x",
        "init_images": ["data:image/png;base64,AAAA"],
        "mask": "BBBB",
        "mask_blur": 4,
        "seed": -1,
    }
    edit = engine_request(parse(Img2Img, picture), 0)
    assert (edit.images, edit.mask, edit.feather, edit.strength, edit.seed) == (
        ["AAAA"],
        "BBBB",
        4,
        0.75,
        None,
    )
    with pytest.raises(BadRequest, match="inpainting_mask_invert"):
        engine_request(parse(Img2Img, picture | {"inpainting_mask_invert": 1}), 0)


def test_a_batch_has_seeds_that_follow_each_other_or_subseeds_that_do(gateway: Gateway) -> None:
    body = {**OPEN_WEBUI, "seed": 5, "batch_size": 2, "steps": 1, "width": 64, "height": 64}
    drawn = gateway.http.post("/sdapi/v1/txt2img", json=body).json()
    info = json.loads(drawn["info"])
    assert (info["seed"], info["all_seeds"], info["all_subseeds"]) == (5, [5, 6], [-1, -1])
    assert [recipe(image).seed for image in drawn["images"]] == [5, 6]
    alone = gateway.http.post("/sdapi/v1/txt2img", json=body | {"seed": 6, "batch_size": 1}).json()
    assert alone["images"][0] == drawn["images"][1]
    turned = body | {"subseed": 90, "subseed_strength": 0.25}
    drawn = gateway.http.post("/sdapi/v1/txt2img", json=turned).json()
    info = json.loads(drawn["info"])
    assert (info["all_seeds"], info["all_subseeds"], info["subseed_strength"]) == ([5, 5], [90, 91], 0.25)
    assert [recipe(image).variations for image in drawn["images"]] == [
        (Variation(90, 0.25),), (Variation(91, 0.25),)
    ]  # fmt: skip
    random = engine_request(parse(Txt2Img, turned | {"seed": -1, "subseed": -1}), 0)
    assert random.seed
    assert random.count == 2


def recipe(image: str) -> Recipe:
    return read_recipe(base64.b64decode(image))


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + bytes(4)


def test_texts_of_every_kind_are_read_and_bombs_are_not() -> None:
    bomb = zlib.compress(bytes(50 * 1024**2), 9)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        (
            chunk(b"tEXt", b"a\0one"),
            chunk(b"zTXt", b"b\0\0" + zlib.compress(b"two")),
            chunk(b"iTXt", b"c\0\0\0\0\0" + "drei ä".encode()),
            chunk(b"iTXt", b"d\0\1\0de\0\0" + zlib.compress(b"four")),
            chunk(b"zTXt", b"e\0\0" + bomb),
            chunk(b"zTXt", b"f\0\0broken"),
        )
    )
    texts = png_texts(png)
    assert {key: texts[key] for key in "abcdf"} == {
        "a": "one",
        "b": "two",
        "c": "drei ä",
        "d": "four",
        "f": "",
    }
    assert len(texts["e"]) == 1024**2
    assert png_texts(b"GIF89a") == {}
    assert png_texts(png[:26]) == {"a": "one"}


def test_the_password_of_a_client_is_the_key(tmp_path: Path) -> None:
    with Gateway({}, key="k1", keys=["k1"]) as gateway:
        url = f"{gateway.url}/sdapi/v1/samplers"
        assert httpx2.get(url, auth=("anybody", "k1")).status_code == 200
        assert httpx2.get(url, auth=("k1", "no")).status_code == 401
        assert httpx2.get(url, headers={"Authorization": "Basic ???"}).status_code == 401


def test_units_of_the_controlnet_extension_are_controls() -> None:
    unit = {"model": "canny [a1b2c3]", "image": "aGk=", "weight": 0.8, "guidance_end": 0.5, "module": "none"}
    off = {"enabled": False, "module": "canny"}
    body: Any = {"prompt": "a", "alwayson_scripts": {"ControlNet": {"args": [unit, off]}, "other": {}}}
    (control,) = engine_request(parse(Txt2Img, body), 0).controls or ()
    assert (control.name, control.image, control.scale, control.end) == ("canny", "aGk=", 0.8, 0.5)
    assert ignored(body) == ["alwayson_scripts.other was ignored"]
    for more, message in (
        ({"module": "canny"}, "args\\[0\\].module: 'canny' is not supported"),
        ({"model": "None"}, "args\\[0\\].model is missing"),
        ({"image": None}, "args\\[0\\].image: the picture"),
        ({"control_mode": 2}, "control_mode: only 0"),
        ({"weight": "x"}, "alwayson_scripts.controlnet.args"),
    ):
        wrong = {"prompt": "a", "alwayson_scripts": {"controlnet": {"args": [unit | more]}}}
        with pytest.raises(BadRequest, match=message):
            engine_request(parse(Txt2Img, wrong), 0)
