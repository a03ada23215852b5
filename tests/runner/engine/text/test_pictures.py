"""Chats with pictures, from the body of a request to its answer."""

import asyncio
import base64
import functools
import json
import re
import shutil
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mlx_lm.utils import load_tokenizer
from PIL import Image
from safetensors.numpy import load_file, save_file

from runner.engine.text import picture_memory
from runner.engine.text.chat_prompts import ContentForm, render_chat
from runner.engine.text.worker import TextSettings
from runner.inspect.capabilities import text_capabilities
from runner.protocol.text_rules import parse_text
from runner.server import text_api
from runner.sources import ModelMode, find
from tests.runner.live import in_process
from tests.runner.pictures import encoded, noise, sent
from tests.toys import toy_text, toy_vision

MARKER = "<|vision_start|><|image_pad|><|vision_end|>"
# Of SmolVLM's kind: strings would be rendered letter by letter, as nothing.
PARTS_ALONE = (
    "{% for message in messages %}{{ message.role }}:{% for part in message.content %}{% if part.type == 'image' %}"
    "<|image_pad|>{% elif part.type == 'text' %}{{ part.text }}{% endif %}{% endfor %}{{ '\n' }}{% endfor %}"
)
TEXT_ALONE = "{% for message in messages %}{{ message.role + ':' + message.content + '\n' }}{% endfor %}"


class Chats:
    def __init__(self, client: httpx2.AsyncClient) -> None:
        self.client = client

    async def post(self, *messages: dict[str, Any], **options: Any) -> httpx2.Response:
        body = {"messages": list(messages), "options": {"num_predict": 6, **options}, "stream": False}
        return await self.client.post("/completion", json=body)

    async def written(self, *messages: dict[str, Any], **options: Any) -> dict[str, Any]:
        answer = await self.post(*messages, **options)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    async def refused(self, *messages: dict[str, Any]) -> str:
        answer = await self.post(*messages)
        assert answer.status_code == 400, answer.text
        return str(answer.json()["error"])


def user(text: str, *images: str) -> dict[str, Any]:
    return {"role": "user", "content": text, **({"images": list(images)} if images else {})}


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def chats(loop: asyncio.Runner) -> Iterator[Chats]:
    started = in_process(toy_vision())
    yield Chats(loop.run(started.__aenter__()))
    loop.run(started.__aexit__(None, None, None))


def awaited(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test on the loop that the runner is on."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        fixtures["loop"].run(test(**fixtures))

    return run


@awaited
async def test_pictures_change_the_answer_count_as_tokens_and_are_kept(
    loop: asyncio.Runner, chats: Chats
) -> None:
    none = await chats.written(user("What is it?"))
    one = await chats.written(user("What is it?", sent(1)))
    other = await chats.written(user("What is it?", sent(2)))
    again = await chats.written(user("What is it?", sent(1)))
    assert one["tokens"] == again["tokens"]
    assert len({tuple(each["tokens"]) for each in (none, one, other)}) == 3
    # 40 x 30 pixels in patches of 6, of which four become a row; and two tokens around them.
    assert one["prompt_eval_count"] - none["prompt_eval_count"] == 3 * 3 + 2
    assert again["cached"] == one["prompt_eval_count"] - 1
    assert other["cached"] < 10


@awaited
async def test_answers_are_the_same_in_company_and_turn_by_turn(loop: asyncio.Runner, chats: Chats) -> None:
    rows = [
        [user("What is it?", sent(3, (70, 20)))],
        [user("And the two?", sent(4), sent(5))],
        [user("A text alone, of some more words.")],
    ]
    alone = [(await chats.written(*row))["tokens"] for row in rows]
    together = await asyncio.gather(*(chats.written(*row) for row in rows))
    assert [each["tokens"] for each in together] == alone
    first = await chats.written(user("What is it?", sent(6)))
    turns = [
        user("What is it?", sent(6)),
        {"role": "assistant", "content": first["content"]},
        user("And this?", sent(7)),
    ]
    second = await chats.written(*turns)
    assert second["cached"] > first["prompt_eval_count"] - 8


@awaited
async def test_pictures_stand_where_the_parts_of_the_content_are(loop: asyncio.Runner, chats: Chats) -> None:
    async def prompt(**message: Any) -> str:
        answer = await chats.client.post("/apply-template", json={"messages": [{"role": "user", **message}]})
        return str(answer.json()["prompt"])

    between = [
        {"type": "text", "text": "a"},
        {"type": "image"},
        {"type": "text", "text": "b"},
        {"type": "image"},
    ]
    assert f"user\na{MARKER}b{MARKER}<|im_end|>" in await prompt(content=between, images=[sent(1), sent(2)])
    assert f"user\n{MARKER}{MARKER}a<|im_end|>" in await prompt(content="a", images=[sent(1), sent(2)])
    assert f"user\n{MARKER}<|im_end|>" in await prompt(images=[sent(1)])


@awaited
async def test_low_detail_is_a_smaller_picture(
    loop: asyncio.Runner, chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runner.engine.text.pictures.LOW_SIDE", 24)

    def looking(detail: str) -> dict[str, Any]:
        return {
            "role": "user",
            "content": [{"type": "image", "detail": detail}],
            "images": [sent(9, (48, 36))],
        }

    low, high = await chats.written(looking("low")), await chats.written(looking("high"))
    assert low["prompt_eval_count"] < high["prompt_eval_count"]


@awaited
async def test_pictures_are_read_as_those_to_edit_are(loop: asyncio.Runner, chats: Chats) -> None:
    """Upright, without transparency, of an animation the first frame."""
    plain = noise(1)
    upright = await chats.written(user("?", encoded(plain)))
    exif = Image.Exif()
    exif[0x0112] = 6
    lying = plain.transpose(Image.Transpose.ROTATE_90)
    clear = plain.convert("RGBA")
    clear.putpixel((3, 3), (255, 0, 0, 0))
    white = plain.copy()
    white.putpixel((3, 3), (255, 255, 255))
    same = {
        "turned": (encoded(lying, exif=exif.tobytes()), upright),
        "clear": (encoded(clear), await chats.written(user("?", encoded(white)))),
        "moving": (encoded(plain, save_all=True, append_images=[noise(2)]), upright),
        "in a data URI": (f"data:image/png;base64,{encoded(plain)}", upright),
    }
    for name, (picture, expected) in same.items():
        assert (await chats.written(user("?", picture)))["tokens"] == expected["tokens"], name


@awaited
async def test_what_is_no_picture_is_refused_and_costs_nobody_else(
    loop: asyncio.Runner, chats: Chats
) -> None:
    good, svg = sent(1), base64.b64encode(b"<svg xmlns='http://www.w3.org/2000/svg'/>").decode()
    truncated = base64.b64encode(base64.b64decode(sent(1, (300, 200)))[:4000]).decode()
    refusals = {
        "messages[0].images[0]: the picture is not valid base64": user("?", "!!!"),
        "messages[0].images[0]: the picture is empty": user("?", ""),
        "messages[0].images[1]: the picture is an SVG; PNG, JPEG and WebP are accepted": user("?", good, svg),
        "messages[0].images[0]: the picture is damaged": user("?", truncated),
        "at most 64 megapixels are accepted": user("?", encoded(Image.new("1", (9000, 9000)))),
        "at most 64 to 1 is accepted": user("?", encoded(Image.new("1", (700, 2)))),
        "messages[0].images: a list is not allowed; a list of at most 10 items is needed": user(
            "?", *[good] * 100
        ),
        "messages[0].images[0]: 5 is not allowed; text is needed": {
            "role": "user",
            "content": "?",
            "images": [5],
        },
        "messages[0].images: 2 are given, and the content has 1 part": user("", good, good)
        | {"content": [{"type": "image"}]},
        'messages[0].content[0].type: "audio" is not allowed': {
            "role": "user",
            "content": [{"type": "audio"}],
        },
        "messages[0].content[0].text is missing": {"role": "user", "content": [{"type": "text"}]},
        "places for pictures": user("<|image_pad|> is a word", good),
    }
    for expected, message in refusals.items():
        assert expected in await chats.refused(message)
    assert "they have 12 pictures; at most 10 are allowed" in await chats.refused(
        user("", *[good] * 6), user("", *[good] * 6)
    )
    answer = await chats.client.post("/completion", json={"prompt": "?", "images": [good]})
    assert answer.status_code == 400
    assert "pictures belong to a message" in answer.text
    assert (await chats.written(user("?", good)))["tokens"]


@awaited
async def test_rows_of_pictures_count_for_the_context(loop: asyncio.Runner, chats: Chats) -> None:
    answer = await chats.post(user("?", *(sent(seed, (200, 200)) for seed in range(8))), num_ctx=128)
    assert answer.status_code == 400
    assert "do not fit into the context of 128 tokens" in answer.text


@awaited
async def test_pixels_of_waiting_requests_are_bounded(
    loop: asyncio.Runner, chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_api, "MOST_HELD", 10_000)
    answers = await asyncio.gather(*(chats.post(user("?", sent(seed, (60, 60)))) for seed in range(6)))
    assert {answer.status_code for answer in answers} == {200, 503}
    monkeypatch.undo()
    assert (await chats.post(user("?", sent(1)))).status_code == 200


@awaited
async def test_sampling_choices_grammars_and_log_probabilities_work_with_pictures(
    loop: asyncio.Runner, chats: Chats
) -> None:
    picture = sent(1)
    sampled = [
        await chats.written(user("?", picture), temperature=1.0, seed=seed, repeat_penalty=1.2)
        for seed in (1, 1, 2)
    ]
    assert sampled[0]["tokens"] == sampled[1]["tokens"] != sampled[2]["tokens"]
    body = {"messages": [user("?", picture)], "options": {"num_predict": 20}, "stream": False}
    limited = await chats.client.post("/completion", json={**body, "format": {"enum": ["yes", "no"]}})
    assert limited.json()["content"] in ('"yes"', '"no"')
    likely = (
        await chats.client.post("/completion", json={**body, "logprobs": True, "top_logprobs": 2})
    ).json()
    assert len(likely["logprobs"]) == 20
    guessed = await chats.written(user("?", picture), speculate=4)
    assert guessed["tokens"] == (await chats.written(user("?", picture), speculate=0))["tokens"]


@awaited
async def test_a_model_that_reads_only_text_refuses_pictures(loop: asyncio.Runner) -> None:
    async with in_process(toy_text()) as client:
        assert (
            await Chats(client).refused(user("?", sent(1)))
            == "messages[0].images[0]: this model reads only text"
        )


@awaited
async def test_a_template_beside_the_picture_processor_is_used(loop: asyncio.Runner, tmp_path: Path) -> None:
    folder = shutil.copytree(toy_vision(), tmp_path / "toy")
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "chat_template.json").write_text(json.dumps({"chat_template": config.pop("chat_template")}))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    async with in_process(folder) as client:
        assert (await Chats(client).written(user("?", sent(1))))["tokens"]


@awaited
async def test_a_model_without_its_tower_reads_only_text(loop: asyncio.Runner, tmp_path: Path) -> None:
    """As mlx-lm converts it."""
    folder = shutil.copytree(toy_vision(), tmp_path / "toy")
    tensors = {
        key: value for key, value in load_file(folder / "model.safetensors").items() if "visual" not in key
    }
    save_file(tensors, folder / "model.safetensors", metadata={"format": "mlx"})
    assert "vision" not in text_capabilities(find(str(folder)))
    assert "vision" in text_capabilities(find(str(toy_vision())))
    async with in_process(folder) as client:
        assert "this model reads only text" in await Chats(client).refused(user("?", sent(1)))
        assert (await Chats(client).written(user("?")))["tokens"]


@awaited
async def test_a_picture_that_there_is_no_room_to_look_at_is_refused(
    loop: asyncio.Runner, chats: Chats, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture_memory, "memory_left", lambda: 2**16)
    answer = await chats.post(user("What is it?", sent(1), sent(2, (900, 700))))
    assert answer.status_code == 507
    error = str(answer.json()["error"])
    assert error.startswith("messages[0].images[")
    assert re.search(
        r"takes about .+B beside the weights, and .+B are left; send a smaller picture", error
    ), error
    assert (await chats.written(user("What is it?")))["tokens"]
    monkeypatch.undo()
    assert (await chats.written(user("What is it?", sent(1))))["tokens"]


@awaited
async def test_blocks_on_disk_do_not_mix_pictures(loop: asyncio.Runner, tmp_path: Path) -> None:
    settings = TextSettings(kv_disk=2**24, kv_disk_folder=str(tmp_path / "kv"))
    tall = (54, 54)
    expected = []
    for expects_hits in (False, True):
        async with in_process(toy_vision(), settings) as client:
            chats = Chats(client)
            other = await chats.written(user("What is it, of these words?", sent(8, tall)))
            assert (other["cached"] > 0) == expects_hits
            if expects_hits:
                assert (await chats.written(user("What is it, of these words?", sent(9, tall))))[
                    "cached"
                ] < 32
            expected.append(other["tokens"])
    assert expected[0] == expected[1]


@awaited
async def test_a_draft_model_drafts_nothing_where_pictures_are(loop: asyncio.Runner, chats: Chats) -> None:
    plain = await chats.written(user("?", sent(1)))
    settings = TextSettings(draft=find(str(toy_vision())).fetch(ModelMode.TEXT))
    async with in_process(toy_vision(), settings) as client:
        answer = await Chats(client).written(user("?", sent(1)))
        assert answer["tokens"] == plain["tokens"]
        assert answer["drafted"] == 0
        assert "the draft model does not see pictures" in answer["warnings"][0]
        assert (await Chats(client).written(user("?")))["drafted"] > 0


@pytest.mark.parametrize(
    ("template", "text", "parts", "expected"),
    [
        (PARTS_ALONE, False, True, "user:before <|image_pad|>after\nassistant:yes\n"),
        (TEXT_ALONE, True, False, f"user:before {MARKER}after\nassistant:yes\n"),
        (
            None,
            True,
            True,
            f"<|im_start|>user\nbefore {MARKER}after<|im_end|>\n<|im_start|>assistant\nyes<|im_end|>\n",
        ),
    ],
)
def test_templates_get_the_content_that_they_take(
    template: str | None, text: bool, parts: bool, expected: str
) -> None:
    tokenizer: Any = load_tokenizer(toy_vision())
    if template is not None:
        tokenizer._tokenizer.chat_template = template
    form = ContentForm.of(tokenizer, MARKER)
    assert (form.text, form.parts) == (text, parts)
    content = [{"type": "text", "text": "before "}, {"type": "image"}, {"type": "text", "text": "after"}]
    messages = [
        {"role": "user", "content": content, "images": ["x"]},
        {"role": "assistant", "content": "yes"},
    ]
    request = parse_text({"messages": messages, "continue_final_message": False})
    assert render_chat(tokenizer, request, form).text.startswith(expected)
