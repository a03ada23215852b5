"""Chats as models read them: an assistant's message at the end is gone on with, as transformers renders it."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import pytest
from mlx_lm.utils import load_tokenizer
from transformers import AutoTokenizer

from models.tokenizers.deadline import _stop
from runner.engine.text.answer_format import _starts_thinking
from runner.engine.text.chat_prompts import ChatPrompt, render_chat
from runner.engine.text.output_parser import markers_of
from runner.errors import BadRequest
from runner.protocol.text_rules import parse_text
from tests.runner.live import events, in_process, text, tokens
from tests.toys import toy_text
from tests.waiting import PATIENCE, until

USER = {"role": "user", "content": "How is the sea?"}
BEGUN = {"role": "assistant", "content": "The sea is"}
CALL = {"type": "function", "function": {"name": "look", "arguments": {}}}

SMOLLM2 = (
    "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# Of a thought that was thought, nothing is kept; of Qwen3's kind.
FORGETFUL = (
    "{% for message in messages %}{% set text = message.content.split('</think>')[-1].lstrip('\n') %}"
    "{{ '<|im_start|>' + message.role + '\n' + text + '<|im_end|>\n' }}{% endfor %}"
)
ENDLESS = "{% for message in messages %}{{ message.content[:4] }}{% endfor %}"
FAMILIES = ("qwen3", "llama", "mistral", "gemma3")


def loaded(family: str = "llama", template: str | None = None) -> Any:
    tokenizer = load_tokenizer(toy_text(family))
    if template is not None:
        tokenizer._tokenizer.chat_template = template
    return tokenizer


def rendered(tokenizer: Any, *messages: dict[str, Any], **fields: Any) -> ChatPrompt:
    return render_chat(tokenizer, parse_text({"messages": list(messages), **fields}))


@pytest.mark.parametrize(
    "content", ["The sea is", "Sure, ", " \nOf course:\n", "```json\n", "🌊 is a wave, 海 the sea"]
)
@pytest.mark.parametrize(
    ("family", "template"), [*((family, None) for family in FAMILIES), ("llama", SMOLLM2)]
)
def test_an_answer_that_was_begun_is_left_open_as_transformers_leaves_it(
    family: str, template: str | None, content: str
) -> None:
    tokenizer = AutoTokenizer.from_pretrained(toy_text(family))
    messages = [USER, {"role": "assistant", "content": content}]
    theirs = tokenizer.apply_chat_template(
        messages, chat_template=template, tokenize=False, continue_final_message=True
    )
    assert rendered(loaded(family, template), *messages) == ChatPrompt(theirs, content)
    assert theirs.rstrip().endswith(content.strip())


def test_smollm2_goes_on_where_the_message_ends() -> None:
    prompt = rendered(loaded("llama", SMOLLM2), USER, BEGUN)
    assert prompt.text.endswith(
        "<|im_start|>user\nHow is the sea?<|im_end|>\n<|im_start|>assistant\nThe sea is"
    )


def test_what_is_trimmed_by_its_template_is_trimmed_here_too() -> None:
    prompt = rendered(loaded("gemma3"), USER, {"role": "assistant", "content": " The sea is  "})
    assert prompt.text.endswith("<start_of_turn>model\nThe sea is")


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([USER], {}),
        ([USER, {"role": "assistant", "content": "", "tool_calls": [CALL]}], {}),
        ([USER, {"role": "tool", "content": "blue"}], {}),
        ([USER, BEGUN], {"continue_final_message": False}),
    ],
)
def test_after_anything_else_the_answer_is_a_new_turn(messages: list[Any], fields: dict[str, Any]) -> None:
    prompt = rendered(loaded("qwen3"), *messages, **fields)
    assert prompt.begun is None
    assert prompt.text.endswith("<|im_start|>assistant\n")


def test_an_empty_answer_at_the_end_is_as_none() -> None:
    """Some clients send along the message that they are about to fill."""
    alone = rendered(loaded("qwen3"), USER)
    assert rendered(loaded("qwen3"), USER, {"role": "assistant", "content": ""}) == alone


def test_only_an_answer_can_be_gone_on_with() -> None:
    for last in (USER, {"role": "assistant", "content": "x", "tool_calls": [CALL]}):
        with pytest.raises(BadRequest, match=r"^continue_final_message: true is only allowed if"):
            rendered(loaded("qwen3"), last, continue_final_message=True)


@pytest.mark.parametrize(("template", "content"), [(FORGETFUL, "<think>a</think>b"), (ENDLESS, "The sea is")])
def test_what_a_template_leaves_out_cannot_be_gone_on_with(template: str, content: str) -> None:
    with pytest.raises(BadRequest, match=r"^messages\[1\]\.content cannot be continued") as caught:
        rendered(loaded("llama", template), USER, {"role": "assistant", "content": content})
    assert len(caught.value.message) < 300, "the chat is not repeated"


@pytest.mark.parametrize(
    ("content", "open"),
    [
        ("<think>", True),
        ("<think>\nBlue, so", True),
        ("<think>Blue.</think>\n\nIt is", False),
        ("It is", False),
        ("<think>a</think><think>b", True),
    ],
)
def test_an_answer_that_was_begun_in_a_thought_goes_on_in_it(content: str, open: bool) -> None:
    tokenizer = loaded("qwen3")
    prompt = rendered(tokenizer, USER, {"role": "assistant", "content": content})
    assert _starts_thinking(markers_of(tokenizer), prompt) is open


def ask(folder: Path, work: Callable[[httpx2.AsyncClient], Any]) -> Any:
    async def run() -> Any:
        async with in_process(folder) as client:
            return await work(client)

    return asyncio.run(run())


@pytest.mark.parametrize("family", FAMILIES)
def test_an_answer_that_was_begun_is_written_on_from_its_last_letter(family: str) -> None:
    """Spaces between the two included, which some tokenizers drop at the start of a text."""
    tokenizer = loaded(family)
    prompt = rendered(tokenizer, USER, BEGUN).text
    ids = tokenizer.encode(prompt, add_special_tokens=False)

    async def compare(client: httpx2.AsyncClient) -> None:
        for seed in range(4):
            options = {"num_predict": 8, "temperature": 1.5, "seed": seed}
            body = {"messages": [USER, BEGUN], "options": options}
            continued = events(await client.post("/completion", json=body))
            assert continued[-1]["prompt_eval_count"] == len(ids)
            whole = tokenizer.decode([*ids, *tokens(continued)])
            assert tokenizer.decode(ids) + text(continued) == whole

    ask(toy_text(family), compare)


LOOPING = "{% for a in range(99999) %}{% for b in range(99999) %}{% for c in range(99999) %}{% endfor %}{% endfor %}{% endfor %}"


def test_a_template_that_does_not_come_to_an_end_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runner.engine.text.chat_prompts.RENDER_SECONDS", 0.2)
    with pytest.raises(BadRequest, match=r"the model's chat template did not finish within 0\.2 seconds"):
        rendered(loaded("llama", LOOPING), USER)


def test_while_a_template_loops_other_requests_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(shutil.copytree(toy_text("llama"), tmp_path / "toy"))
    (folder / "chat_template.jinja").write_text(LOOPING)
    monkeypatch.setattr("runner.engine.text.chat_prompts.RENDER_SECONDS", PATIENCE)

    async def main() -> None:
        async with in_process(folder) as client:
            chat = {"messages": [USER], "options": {"num_predict": 1}}
            looping = asyncio.create_task(client.post("/completion", json=chat))
            await until(lambda: [thread for thread in threading.enumerate() if thread.name == "deadline"])
            prompt = {"prompt": "The sea", "options": {"num_predict": 2}}
            assert len(tokens(events(await client.post("/completion", json=prompt)))) == 2
            assert not looping.done()
            for thread in threading.enumerate():
                if thread.name == "deadline":
                    _stop(thread)
            looping.cancel()

    asyncio.run(main())
