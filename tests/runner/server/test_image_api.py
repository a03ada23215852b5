"""POST /completion in image mode over HTTP, with a pipeline that only pretends."""

import asyncio
import base64
import io
import json
import threading
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import httpx2
import pytest
from PIL import Image
from starlette.types import Message

from pipelines.base import ImageRequest, Pixels, Plan, Size
from pipelines.picture_files import PictureFile
from runner.http.bodies import PICTURES_LIMIT
from runner.server.app import RunnerApp
from tests.runner.fake_pipeline import FakePipeline, client_of, opened, picture_base64, running, until
from tests.waiting import PATIENCE

Event = dict[str, Any]


def run(test: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(test(), PATIENCE))


def lines(response: httpx2.Response) -> list[Event]:
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/x-ndjson"
    raw = response.text.split("\n")
    assert raw.pop() == "", "every line ends"
    assert all(raw), "no blank lines between"
    return [json.loads(line) for line in raw]


async def draw(client: httpx2.AsyncClient, **body: Any) -> list[Event]:
    return lines(await client.post("/completion", json={"prompt": "a boat", **body}))


async def refused(client: httpx2.AsyncClient, **body: Any) -> str:
    response = await client.post("/completion", json={"prompt": "a boat", **body})
    assert response.status_code == 400, response.text
    return str(response.json()["error"])


def test_events_are_exactly_those_of_the_contract() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            first, *steps, done = await draw(client, seed=5)
        assert first == {"total": 4}
        assert steps == [{"step": n, "total": 4} for n in (1, 2, 3, 4)]
        assert opened(done.pop("image")).size == (64, 48)
        assert done.pop("peak_memory") > 0
        assert done == {
            "done": True,
            "seed": 5,
            "width": 64,
            "height": 48,
            "total": 4,
            "load_duration": 2_000_000_000,
            "prompt_eval_duration": 250_000_000,
            "eval_duration": 1_500_000_000,
            "decode_duration": 125_000_000,
            "format": "png",
        }

    run(test)


@pytest.mark.parametrize("stream", [True, False])
def test_a_picture_that_memory_is_too_short_for_is_a_507(stream: bool) -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        pipeline.needed = 2**60
        async with client_of(pipeline) as client:
            response = await client.post("/completion", json={"prompt": "a boat", "stream": stream})
            assert response.status_code == 507, response.text
            assert "are needed beside the weights" in response.json()["error"]
            pipeline.needed = 0
            assert (await draw(client))[-1]["done"] is True

    run(test)


def test_without_a_stream_it_is_one_object() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            body = {"prompt": "a boat", "stream": False, "previews": 2}
            one = await client.post("/v1/completions", json=body)
            assert one.headers["content-type"] == "application/json"
            assert opened(one.json()["image"]).size == (64, 48)
            assert one.json()["done"] is True
            three = (await client.post("/completion", json={**body, "n": 3})).json()
            assert [opened(text).size for text in three["images"]] == [(64, 48)] * 3
            assert "image" not in three

    run(test)


@pytest.mark.parametrize("seed", [None, 0, -1, -(2**70)])
def test_a_seed_that_is_not_given_is_drawn_and_repeats_the_picture(seed: int | None) -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            first = (await draw(client, seed=seed))[-1]
            other = (await draw(client, seed=seed))[-1]
            again = (await draw(client, seed=first["seed"]))[-1]
        assert first["seed"] > 0
        assert first["image"] == again["image"] != other["image"]

    run(test)


def test_a_seed_beyond_64_bits_is_refused() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            assert "seed" in await refused(client, seed=2**70)
            assert (await draw(client, seed=2**64 - 1))[-1]["seed"] == 2**64 - 1

    run(test)


def test_pictures_to_edit_arrive_decoded_bare_or_as_data_uris() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            jpeg = f"data:image/jpeg;base64,{picture_base64(40, 40, 'JPEG')}"
            await draw(client, images=[picture_base64(32, 24), jpeg], strength=0.5)
        (request,) = pipeline.requests
        assert [picture.shape for picture in request.images] == [(24, 32, 3), (40, 40, 3)]
        assert request.images[0][0, 0].tolist() == [200, 30, 30]
        assert request.strength == 0.5

    run(test)


def mask_base64(grey: int = 255, alpha: int = 255) -> str:
    """32 x 24 pixels, of which all but the upper left quarter are black and opaque."""
    picture = Image.new("RGBA", (32, 24), (0, 0, 0, 255))
    picture.paste((grey, grey, grey, alpha), (0, 0, 16, 12))
    out = io.BytesIO()
    picture.save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()


@pytest.mark.parametrize("mask", [mask_base64(), mask_base64(0, alpha=0)], ids=["white", "transparent"])
def test_a_mask_arrives_decoded_and_its_recipe_says_so(mask: str) -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            *_, done = await draw(client, images=[picture_base64()], mask=mask, feather=3)
        (request,) = pipeline.requests
        assert request.mask is not None
        assert request.feather == 3
        assert request.mask.shape == (24, 32)
        assert request.mask[:12, :16].all()
        assert request.mask.sum() == 12 * 16
        recipe = opened(done["image"]).text["diptych"]  # type: ignore[attr-defined]
        assert json.loads(recipe)["masked"] is True

    run(test)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mask": mask_base64()}, "mask: it needs the picture that it belongs to, but images is empty"),
        ({"mask": "not base64!", "images": [picture_base64()]}, "mask: the picture is not valid base64"),
        ({"mask": mask_base64()[:-60], "images": [picture_base64()]}, "mask: the picture is damaged"),
        ({"mask": mask_base64(127), "images": [picture_base64()]}, "mask: it is black everywhere"),
        ({"mask": 5, "images": [picture_base64()]}, "mask: 5 is not allowed"),
        ({"feather": 300}, "feather: 300 is not allowed; an integer of at most 256"),
    ],
)  # fmt: skip
def test_a_mask_that_cannot_be_used_is_refused_by_name(fields: Event, message: str) -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            assert (await refused(client, **fields)).startswith(message)
        assert not pipeline.requests

    run(test)


@pytest.mark.parametrize(
    ("hostile", "words"),
    [
        ("", "empty"),
        ("not base64!", "base64"),
        (base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode(), "SVG"),
        (base64.b64encode(b"GIF89a").decode(), "GIF"),
        (picture_base64()[:-40], "damaged"),
        (picture_base64(10_000, 1), "64 to 1"),
        (picture_base64(8200, 8200), "64 megapixels"),
        ("http://example.com/cat.png", "base64"),
        ("file:///etc/passwd", "base64"),
        ("data:text/plain,hello", "base64"),
    ],
)
def test_a_picture_that_is_none_is_refused_by_its_place(hostile: str, words: str) -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            message = await refused(client, images=[picture_base64(), hostile])
        assert message.startswith("images[1]: ")
        assert words in message
        assert not pipeline.requests

    run(test)


def test_what_the_model_cannot_plan_is_refused_before_any_work() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            assert "8 x 48" in await refused(client, width=8)
            assert "n: 100" in await refused(client, n=100)
        assert not pipeline.requests

    run(test)


@pytest.mark.parametrize(
    ("fields", "plans"), [({}, 1), ({"quality": "high"}, 2), ({"quality": "high", "steps": 3}, 1)]
)
def test_a_request_is_planned_once_by_the_sizes_of_its_files(fields: Event, plans: int) -> None:
    """A quality is a share of the model's own steps, which a first plan tells."""

    async def test() -> None:
        pipeline = FakePipeline()
        sizes: list[tuple[Size, ...]] = []
        plan = pipeline.plan

        def reducing(request: ImageRequest) -> Plan:
            sizes.append(request.image_sizes)
            return replace(plan(request), reduced=((20, 10),))

        pipeline.plan = reducing  # type: ignore[method-assign]
        async with client_of(pipeline) as client:
            await draw(client, images=[picture_base64(40, 20)], **fields)
        assert sizes == [((40, 20),)] * plans
        assert pipeline.requests[0].image_sizes == ((20, 10),)

    run(test)


def test_warnings_say_what_was_ignored_and_what_was_cut() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            done = (await draw(client, prompt="long " * 30, temperature=0.7))[-1]
        assert done["warnings"] == ["temperature is for text and was ignored", "the prompt was cut"]

    run(test)


def test_a_failure_after_the_first_event_is_the_last_line_and_never_a_success() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        pipeline.fail = RuntimeError("the device is lost")
        async with client_of(pipeline) as client:
            assert await draw(client) == [
                {"total": 4},
                {"error": "RuntimeError: the device is lost", "done": True},
            ]
            response = await client.post("/completion", json={"prompt": "x", "stream": False})
            assert (response.status_code, response.json()) == (
                500,
                {"error": "RuntimeError: the device is lost"},
            )
            pipeline.fail = None
            assert (await draw(client))[-1]["done"] is True

    run(test)


def test_a_body_of_200_megabytes_is_too_large_and_one_of_64_is_not() -> None:
    async def test() -> None:
        async def body(size: int) -> Any:
            yield b'{"prompt": "x", "format": "png", "padding": "'
            for _ in range(size // 2**20):
                yield b"x" * 2**20
            yield b'"}'

        async with client_of(FakePipeline()) as client:
            large = await client.post("/completion", content=body(200 * 10**6))
            assert large.status_code == 413
            assert str(PICTURES_LIMIT) in large.json()["error"]
            assert lines(await client.post("/completion", content=body(65 * 2**20)))[-1]["done"] is True

    run(test)


def test_pictures_of_requests_in_flight_are_held_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.server.image_api.MOST_HELD", 120 * 110 * 3)

    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            pipeline.gate.clear()
            large = {"prompt": "x", "images": [picture_base64(100, 110)]}
            first = asyncio.create_task(client.post("/completion", json=large))
            await until(lambda: bool(pipeline.requests))
            second = await client.post("/completion", json=large)
            assert second.status_code == 503
            assert second.headers["retry-after"]
            assert "images" in second.json()["error"]
            pipeline.gate.set()
            assert lines(await first)[-1]["done"] is True
            assert lines(await client.post("/completion", json=large))[-1]["done"] is True

    run(test)


def test_pictures_are_added_up_before_any_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.image.jobs.MOST_DECODED", 2 * 1024**2)

    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            with monkeypatch.context() as patched:
                patched.setattr(PictureFile, "pixels", None)
                message = await refused(client, images=[picture_base64(1000, 500)] * 2)
            assert message.startswith("images: these 2 take 2 MiB when decoded; 2 MiB are allowed")
            assert (await draw(client, images=[picture_base64(1000, 500)]))[-1]["done"] is True

    run(test)


class Gate:
    """Holds every picture at its decoding until it is opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.open = threading.Event()
        self.begun = self.inside = self.most = 0
        decode = PictureFile.pixels

        def pixels(file: PictureFile, size: Size | None = None) -> Pixels:
            self.begun += 1
            self.inside += 1
            self.most = max(self.most, self.inside)
            assert self.open.wait(60)
            self.inside -= 1
            return decode(file, size)

        monkeypatch.setattr(PictureFile, "pixels", pixels)


def test_pictures_are_decoded_one_at_a_time_and_requests_without_any_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def test() -> None:
        gate = Gate(monkeypatch)
        async with client_of(FakePipeline()) as client:
            edits = [asyncio.create_task(draw(client, images=[picture_base64()] * 3)) for _ in range(4)]
            await until(lambda: gate.begun == 1)
            assert (await draw(client))[-1]["done"] is True
            gate.open.set()
            assert [events[-1]["done"] for events in await asyncio.gather(*edits)] == [True] * 4
        assert (gate.begun, gate.most) == (12, 1)

    run(test)


def test_a_client_that_leaves_has_no_more_of_its_pictures_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        gate = Gate(monkeypatch)
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            app = RunnerApp(engine, "toy", stop=lambda: None)
            leave = asyncio.Event()
            leaving = [
                asyncio.create_task(ask(app, {"prompt": "x", "images": [picture_base64()] * 5}, leave))
                for _ in range(2)
            ]
            await until(lambda: gate.begun == 1)
            leave.set()
            assert await asyncio.gather(*leaving) == [499, 499]
            staying = asyncio.create_task(
                ask(app, {"prompt": "x", "images": [picture_base64()]}, asyncio.Event())
            )
            gate.open.set()
            assert await staying == 200
            assert gate.begun == 2, "one that was begun, and the other client's"
            assert len(pipeline.requests) == 1
            app.close()

    run(test)


async def ask(app: RunnerApp, request: Event, leave: asyncio.Event) -> int:
    """The status of an answer to a client that stays until it is told to leave."""
    body, statuses = [json.dumps(request).encode()], []

    async def receive() -> Message:
        if body:
            return {"type": "http.request", "body": body.pop(), "more_body": False}
        await leave.wait()
        return {"type": "http.disconnect"}

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/completion",
        "headers": [(b"host", b"localhost")],
        "query_string": b"",
    }
    await app.asgi(scope, receive, send)  # type: ignore[arg-type]
    (status,) = statuses
    return int(status)


def test_two_clients_each_get_their_own_picture() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            alone = [(await draw(client, seed=seed))[-1]["image"] for seed in (1, 2)]
            together = await asyncio.gather(*(draw(client, seed=seed) for seed in (1, 2)))
        assert [answer[-1]["image"] for answer in together] == alone

    run(test)


def test_a_full_queue_is_busy() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        pipeline.gate.clear()
        async with client_of(pipeline, queue=1) as client:
            drawn = asyncio.create_task(draw(client))
            await until(lambda: bool(pipeline.requests))
            waiting = asyncio.create_task(draw(client))
            await asyncio.sleep(0.05)
            response = await client.post("/completion", json={"prompt": "x"})
            assert response.status_code == 503
            assert response.headers["retry-after"]
            pipeline.gate.set()
            await asyncio.gather(drawn, waiting)

    run(test)


@pytest.mark.parametrize("path", ["/tokenize", "/v1/tokenize", "/detokenize", "/embedding"])
def test_the_text_endpoints_say_that_this_model_draws(path: str) -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            response = await client.post(path, json={"content": "x"})
        assert response.status_code == 400
        assert "makes pictures" in response.json()["error"]

    run(test)


def test_status_and_metrics_speak_of_pictures() -> None:
    async def test() -> None:
        async with client_of(FakePipeline()) as client:
            await draw(client, n=2)
            status = (await client.get("/v1/status")).json()
            metrics = (await client.get("/metrics")).text
        assert (status["mode"], status["ContextLength"], status["Status"]) == ("image", 77, 0)
        assert status["Memory"] >= 0
        assert (status["supported_parameters"], status["max_references"]) == (["prompt", "seed"], 0)
        assert "diptych_pictures_total 2.0" in metrics
        assert 'diptych_picture_seconds_sum{part="eval"} 1.5' in metrics

    run(test)


def test_cancelling_by_id_ends_the_stream_with_an_error() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with client_of(pipeline) as client:
            body = {"prompt": "x", "steps": 1000}
            pipeline.gate.clear()
            task = asyncio.create_task(
                client.post("/completion", json=body, headers={"x-request-id": "mine"})
            )
            await until(lambda: bool(pipeline.requests))
            assert (await client.post("/cancel", json={"id": "mine"})).json() == {"cancelled": True}
            pipeline.gate.set()
            assert lines(await task)[-1] == {"error": "the request was cancelled", "done": True}
            await until(lambda: pipeline.closed == 1)
            assert pipeline.steps <= 1

    run(test)


def test_a_client_that_leaves_stops_its_picture_within_a_step() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            app = RunnerApp(engine, "toy", stop=lambda: None)
            left, sent = asyncio.Event(), []
            body = [json.dumps({"prompt": "x", "steps": 1000}).encode()]

            async def receive() -> Message:
                if body:
                    return {"type": "http.request", "body": body.pop(), "more_body": False}
                await left.wait()
                return {"type": "http.disconnect"}

            async def send(message: Message) -> None:
                sent.append(message)

            scope = {
                "type": "http",
                "method": "POST",
                "path": "/completion",
                "headers": [(b"host", b"localhost")],
                "query_string": b"",
            }
            answer = asyncio.create_task(app.asgi(scope, receive, send))  # type: ignore[arg-type]
            await until(lambda: pipeline.steps > 1)
            pipeline.gate.clear()
            taken = pipeline.steps
            left.set()
            await until(lambda: engine.jobs == 0)
            pipeline.gate.set()
            await until(lambda: pipeline.closed == 1)
            assert pipeline.steps <= taken + 2
            await answer
            app.close()

    run(test)
