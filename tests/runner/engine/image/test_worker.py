"""The image worker on the GPU thread, with a pipeline that only pretends: order, stopping, failing, memory."""

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from msgspec import UNSET, Struct

from pipelines.base import ImageRequest, PipelineError
from pipelines.packing import read_recipe
from runner.engine.engine import Engine
from runner.engine.image import worker
from runner.engine.image.jobs import PlannedRequest
from runner.engine.jobs import Job
from runner.protocol.image import ImageChunk, ImageDone, ImageStarted, ImageStep
from runner.protocol.text import Failed
from tests.runner.fake_pipeline import HELD, FakePipeline, noise, opened, running, until
from tests.waiting import PATIENCE


def drawing(pipeline: FakePipeline, format: Any = "png", **fields: Any) -> PlannedRequest:
    request = ImageRequest(**{"prompt": "a boat", "seed": 7, **fields})
    return PlannedRequest(request, pipeline.plan(request), format)


async def events(job: Job) -> list[Struct]:
    return [event async for batch in job.batches() for event in batch]


async def drawn(engine: Engine, pipeline: FakePipeline, **fields: Any) -> list[Struct]:
    return await events(engine.submit("id", drawing(pipeline, **fields)))


def text(image: Any) -> str:
    """The base64 of an event, which stands there as JSON."""
    return json.loads(bytes(image))


def run(test: Callable[[], Any]) -> None:
    asyncio.run(asyncio.wait_for(test(), 30))


def test_a_picture_comes_as_its_steps_and_then_itself() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            first, *steps, done = await drawn(engine, pipeline)
        assert first == ImageStarted(4)
        assert steps == [ImageStep(n, 4) for n in (1, 2, 3, 4)]
        assert isinstance(done, ImageDone)
        assert (done.seed, done.width, done.height, done.total, done.format) == (7, 64, 48, 4, "png")
        assert (done.prompt_eval_duration, done.eval_duration) == (250_000_000, 1_500_000_000)
        assert (done.decode_duration, done.load_duration) == (125_000_000, 2_000_000_000)
        assert done.peak_memory >= HELD
        assert done.warnings is UNSET
        assert np.array_equal(np.asarray(opened(text(done.image))), noise(pipeline.requests[0], 64, 48, 0))

    run(test)


def test_the_picture_tells_how_to_make_it_again() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            done = (await drawn(engine, pipeline, negative_prompt="fog", guidance=4.0, steps=3, width=70))[-1]
        assert isinstance(done, ImageDone)
        recipe = read_recipe(base64.b64decode(text(done.image)))
        assert (recipe.prompt, recipe.negative_prompt, recipe.model) == ("a boat", "fog", "toy")
        assert (recipe.width, recipe.height, recipe.steps, recipe.seed) == (64, 48, 3, 7)
        assert (recipe.guidance, recipe.n, recipe.index) == (4.0, 1, 0)

    run(test)


def test_several_pictures_come_one_by_one_before_the_last_event() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            *_, first, second, third, done = await drawn(engine, pipeline, n=3)
        parts = [first, second, third]
        assert all(isinstance(part, ImageChunk) for part in parts)
        assert [part.index for part in parts] == [0, 1, 2]
        for part in parts:
            assert np.array_equal(
                np.asarray(opened(text(part.image))), noise(pipeline.requests[0], 64, 48, part.index)
            )
            recipe = read_recipe(base64.b64decode(text(part.image)))
            assert (recipe.n, recipe.index) == (3, part.index)
        assert isinstance(done, ImageDone)
        assert done.image is UNSET

    run(test)


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_pictures_and_previews_come_in_the_format_asked_for(format: str) -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            actual = await drawn(engine, pipeline, format=format, previews=2)
        steps = [event for event in actual if isinstance(event, ImageStep)]
        assert [step.step for step in steps] == [1, 2, 3, 4], "a preview keeps its place"
        assert [step.preview is not UNSET for step in steps] == [True, True, False, False]
        assert opened(text(steps[0].preview)).size == (16, 8)
        assert isinstance(actual[-1], ImageDone)
        assert opened(text(actual[-1].image)).format == format.upper()

    run(test)


def test_a_cancelled_picture_stops_within_a_step_and_leaves_no_memory_behind() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            before = mx.get_active_memory()
            job = engine.submit("unwanted", drawing(pipeline, steps=100_000))
            await until(lambda: pipeline.steps > 2)
            assert mx.get_active_memory() >= before + HELD
            pipeline.gate.clear()
            taken = pipeline.steps
            assert engine.cancel_id("unwanted")
            pipeline.gate.set()
            await until(lambda: pipeline.closed == 1)
            assert pipeline.steps <= taken + 2, "one that had begun, and one whose count was not read yet"
            await until(lambda: engine.active == 0)
            assert mx.get_active_memory() <= before
            assert isinstance((await events(job))[-1], Failed)
            assert isinstance((await drawn(engine, pipeline))[-1], ImageDone)

    run(test)


def test_what_the_pipeline_says_of_a_request_is_the_answer_and_the_next_one_is_drawn() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            pipeline.fail = PipelineError("images[0]: too narrow")
            assert (await drawn(engine, pipeline))[-1] == Failed("images[0]: too narrow")
            pipeline.fail = RuntimeError("the device is on fire")
            assert (await drawn(engine, pipeline))[-1] == Failed("RuntimeError: the device is on fire")
            pipeline.fail = RuntimeError("[malloc_or_wait] Unable to allocate 123 bytes.")
            (said,) = [e.error for e in await drawn(engine, pipeline) if isinstance(e, Failed)]
            assert said.startswith("64 x 48 does not fit into the device's memory")
            pipeline.fail = None
            before = mx.get_active_memory()
            assert isinstance((await drawn(engine, pipeline))[-1], ImageDone)
            assert mx.get_active_memory() <= before
            assert pipeline.closed == 4

    run(test)


def test_it_is_never_done_without_every_picture() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        pipeline.pictures_missing = 1
        async with running(pipeline) as engine:
            assert (await drawn(engine, pipeline))[-1] == Failed("the pipeline ended with 0 of 1 pictures")
            assert (await drawn(engine, pipeline, n=3))[-1] == Failed(
                "the pipeline ended with 2 of 3 pictures"
            )

    run(test)


def test_a_picture_that_cannot_be_packed_is_an_error_and_never_a_success(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken(*_: Any) -> bytes:
        raise OSError("no space for a picture")

    monkeypatch.setattr("runner.engine.image.worker.pack", broken)

    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            actual = await drawn(engine, pipeline)
            assert actual[-1] == Failed("OSError: no space for a picture")
            assert engine.jobs == 0

    run(test)


def test_the_next_picture_begins_while_the_last_one_is_packed(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    from pipelines.packing import pack

    release = threading.Event()

    def slow(*arguments: Any) -> bytes:
        assert release.wait(PATIENCE)
        return pack(*arguments)

    monkeypatch.setattr("runner.engine.image.worker.pack", slow)

    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            first = engine.submit("first", drawing(pipeline))
            second = engine.submit("second", drawing(pipeline, seed=8))
            await until(lambda: pipeline.closed == 2)
            assert not first.over, "its picture is still being packed"
            assert not engine.idle.is_set()
            release.set()
            for job, seed in ((first, 7), (second, 8)):
                done = (await events(job))[-1]
                assert isinstance(done, ImageDone)
                assert done.seed == seed

    run(test)


def test_requests_are_drawn_one_at_a_time_in_their_order() -> None:
    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            jobs = [engine.submit(str(seed), drawing(pipeline, seed=seed)) for seed in range(1, 6)]
            await asyncio.gather(*map(events, jobs))
        assert [request.seed for request in pipeline.requests] == [1, 2, 3, 4, 5]
        assert pipeline.closed == 5

    run(test)


def test_what_does_not_fit_is_refused_with_both_numbers_before_any_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(worker, "available_memory", lambda: 2_500_000_000)

    async def test() -> None:
        pipeline = FakePipeline()
        async with running(pipeline) as engine:
            pipeline.needed = 3_100_000_000
            job = engine.submit("id", drawing(pipeline, width=2048, height=2048))
            assert await events(job) == [
                Failed(
                    "2048 x 2048 does not fit into the device's memory: about 3.10 GB are needed beside the weights, and "
                    f"2.50 GB are left; {pipeline.memory.relief}"
                )
            ]
            assert job.status == 507
            assert pipeline.requests == []
            pipeline.needed = 2_400_000_000
            assert isinstance((await drawn(engine, pipeline))[-1], ImageDone)

    run(test)
