"""Chat, generate and embed by the real ollama package, against a gateway over toys."""

import asyncio
import base64
import io
import json
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.tokenizers.go_template import OllamaTemplate
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

ollama = pytest.importorskip("ollama", reason="the clients group is not installed")

ASK: Any = [{"role": "user", "content": "Why is the sea blue?"}]
OPTIONS: Any = {"seed": 3, "num_predict": 12}
LOOK: Any = {
    "type": "function",
    "function": {
        "name": "look",
        "description": "Looks somewhere",
        "parameters": {"type": "object", "properties": {"at": {"type": "string"}}, "required": ["at"]},
    },
}
SCHEMA: Any = {"type": "object", "properties": {"boats": {"enum": [1, 17]}, "open": {"type": "boolean"}},
               "required": ["boats", "open"], "additionalProperties": False}  # fmt: skip


@pytest.fixture
def client(gateway: Gateway) -> Any:
    return ollama.Client(host=gateway.url, timeout=PATIENCE)


@pytest.fixture
def other(gateway: Gateway) -> Any:
    return ollama.AsyncClient(host=gateway.url, timeout=PATIENCE)


def chat(client: Any, **fields: Any) -> Any:
    return client.chat(**{"model": "toy", "messages": ASK, "options": OPTIONS, **fields})


def generate(client: Any, **fields: Any) -> Any:
    return client.generate(**{"model": "toy", "prompt": "The sea", "options": OPTIONS, **fields})


def refused(call: Any, words: str, status: int = 400) -> None:
    with pytest.raises(ollama.ResponseError, match=words) as caught:
        call()
    assert caught.value.status_code == status


# -- chat


def test_a_chat_answers_with_counts_and_durations(client: Any) -> None:
    answer = chat(client)
    assert answer.message.role == "assistant"
    assert answer.message.content
    assert (answer.done, answer.done_reason) == (True, "length")
    assert answer.eval_count == 12
    assert answer.prompt_eval_count > 0
    assert answer.total_duration >= answer.load_duration + answer.eval_duration > 0
    assert chat(client).message.content == answer.message.content, "the same seed, the same text"


def test_a_stream_says_the_same_line_by_line(client: Any) -> None:
    whole = chat(client)
    lines = list(chat(client, stream=True))
    assert "".join(line.message.content for line in lines) == whole.message.content
    assert [line.done for line in lines] == [False] * (len(lines) - 1) + [True]
    assert lines[-1].done_reason == "length"
    assert lines[-1].eval_count == whole.eval_count


def test_the_asynchronous_client_gets_the_same(client: Any, other: Any) -> None:
    async def both() -> tuple[Any, str]:
        whole = await chat(other)
        said = ""
        async for line in await chat(other, stream=True):
            said += line.message.content
        return whole, said

    whole, said = asyncio.run(both())
    assert said == whole.message.content == chat(client).message.content


def test_the_asynchronous_client_reaches_everything(other: Any) -> None:
    async def all_of_it() -> None:
        assert {model.model for model in (await other.list()).models} == {"toy", "plain", "klein"}
        assert (await other.show("klein")).capabilities == ["image"]
        whole = await other.generate("toy", "The sea", options=OPTIONS)
        lines = [line async for line in await other.generate("toy", "The sea", options=OPTIONS, stream=True)]
        assert "".join(line.response for line in lines) == whole.response
        drawn = await other.generate("klein", "a boat", width=64, height=64, steps=1, options={"seed": 7})
        assert base64.b64decode(drawn.image).startswith(b"\x89PNG")
        vectors = (await other.embed("toy", ["The sea", "The land"])).embeddings
        former = (await other.embeddings("toy", "The sea")).embedding
        assert former == pytest.approx(vectors[0], abs=1e-5)
        assert {"toy", "klein"} <= {model.model for model in (await other.ps()).models}
        assert (await other.generate("toy", keep_alive=0)).done_reason == "unload"
        assert "toy" not in {model.model for model in (await other.ps()).models}
        for call in (other.pull("qwen3"), other.delete("toy"), other.copy("toy", "mine"), other.push("toy")):
            with pytest.raises(ollama.ResponseError) as caught:
                await call
            assert caught.value.status_code == 400

    asyncio.run(all_of_it())


def test_the_defaults_are_those_that_ollama_documents(client: Any) -> None:
    declared = {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.9,
        "repeat_penalty": 1,
        "repeat_last_n": 64,
        "min_p": 0,
    }
    assert chat(client, options=OPTIONS | declared).message.content == chat(client).message.content
    greedy = chat(client, options=OPTIONS | {"temperature": 0}).message.content
    assert greedy != chat(client).message.content


def test_an_answer_follows_its_schema(client: Any) -> None:
    answer = chat(client, format=SCHEMA, options={"seed": 3, "num_predict": 200})
    actual = json.loads(answer.message.content)
    assert actual["boats"] in (1, 17)
    assert isinstance(actual["open"], bool)
    assert answer.done_reason == "stop"
    said = chat(client, format="json", options={"seed": 3, "num_predict": 60}).message.content
    assert said.lstrip().startswith("{")


def test_tools_and_their_answers_go_to_the_model(client: Any) -> None:
    plain = chat(client)
    offered = chat(client, tools=[LOOK])
    assert offered.prompt_eval_count > plain.prompt_eval_count
    call = {"function": {"name": "look", "arguments": {"at": "sea"}}}
    messages = [
        *ASK,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "look", "content": "blue"},
    ]
    answered = chat(client, messages=messages, tools=[LOOK])
    assert answered.prompt_eval_count > offered.prompt_eval_count


def test_think_reaches_the_template_or_is_ignored_with_a_warning(client: Any, gateway: Gateway) -> None:
    with_thought = chat(client, think=True)
    assert chat(client, think=False).prompt_eval_count != with_thought.prompt_eval_count
    body = {"messages": ASK, "think": True, "stream": False, "options": {**OPTIONS, "num_predict": 40}}
    plain = gateway.http.post("/api/chat", json={**body, "model": "plain"}).json()
    assert plain["warnings"] == ["think was ignored: this model does not think"]
    formed = gateway.http.post("/api/chat", json={**body, "model": "toy", "format": SCHEMA}).json()
    assert json.loads(formed["message"]["content"])["boats"] in (1, 17)
    assert formed["warnings"][0].startswith("think was ignored: format holds")


def test_log_probabilities_follow_the_text(client: Any) -> None:
    answer = chat(client, logprobs=True, top_logprobs=2)
    assert len(answer.logprobs) == 12
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in answer.logprobs)


# -- generate


def test_a_prompt_is_answered_as_a_chat_is_and_raw_as_it_stands(client: Any, gateway: Gateway) -> None:
    user = [{"role": "user", "content": "The sea"}]
    answer = generate(client)
    assert answer.response == chat(client, messages=user).message.content
    system = generate(client, system="Be brief.")
    assert system.prompt_eval_count > answer.prompt_eval_count
    raw = generate(client, raw=True)
    tokens = gateway.http.post("/tokenize", json={"model": "toy", "content": "The sea"}).json()["tokens"]
    assert raw.prompt_eval_count == len(tokens)
    lines = list(generate(client, stream=True))
    assert "".join(line.response for line in lines) == answer.response
    assert lines[-1].done_reason == "length"


def test_a_template_makes_the_prompt(client: Any) -> None:
    raw = generate(client, prompt="Be brief. USER: The sea\nASSISTANT:", raw=True)
    template = "{{ if .System }}{{ .System }} {{ end }}USER: {{ .Prompt }}\nASSISTANT:{{ .Response }}</s>"
    assert generate(client, template=template, system="Be brief.").response == raw.response


@pytest.mark.parametrize(
    ("template", "prompt"),
    [
        ("{{ .Prompt }}", "p"),
        ("a {{- .Prompt -}} b", "apb"),
        ("{{ if .System }}{{ .System }}{{ else }}none{{ end }}!", "none!"),
        ("{{ if .System }}s{{ else if .Prompt }}p{{ else }}n{{ end }}", "p"),
        ("{{ if .Prompt }}{{ if .System }}x{{ end }}y{{ end }}", "y"),
        ("{{ .Prompt }}{{ .Response }}{{ if .System }}{{ end }}x", "p"),
    ],
)
def test_templates_are_read_as_go_reads_them(template: str, prompt: str) -> None:
    assert OllamaTemplate(template).prompt({"System": "", "Prompt": "p"}) == prompt


def test_a_text_ends_before_a_stop_string(client: Any) -> None:
    text = generate(client).response
    stop = text[5:8]
    stopped = generate(client, options=OPTIONS | {"stop": [stop]})
    assert stopped.response == text[: text.index(stop)]
    assert stopped.done_reason == "stop"


def test_a_picture_is_drawn_step_by_step(client: Any, gateway: Gateway) -> None:
    fields: Any = {
        "model": "klein",
        "prompt": "a boat",
        "width": 64,
        "height": 64,
        "steps": 2,
        "options": {"seed": 7},
    }
    lines = list(client.generate(**fields, stream=True))
    steps = [(line.completed, line.total) for line in lines[:-1]]
    assert steps[-2:] == [(1, 2), (2, 2)]
    last = lines[-1]
    assert (last.done, last.done_reason) == (True, "stop")
    assert Image.open(io.BytesIO(base64.b64decode(last.image))).size == (64, 64)
    whole = client.generate(**fields)
    assert whole.image == last.image, "the same seed, the same picture"
    edited = client.generate(**fields, images=[whole.image])
    assert edited.image != whole.image
    mask = io.BytesIO()
    Image.fromarray(np.uint8([[255] * 32 + [0] * 32] * 64)).save(mask, "PNG")
    body = {
        **fields,
        "images": [whole.image],
        "mask": base64.b64encode(mask.getvalue()).decode(),
        "stream": False,
    }
    masked = gateway.http.post("/api/generate", json=body).json()["image"]
    before, after = (
        np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in (whole.image, masked)
    )
    assert (before[:, 32:] == after[:, 32:]).all()
    assert (before[:, :32] != after[:, :32]).any()
    wider = gateway.http.post(
        "/api/generate", json=body | {"width": None, "height": None, "outpaint": "16", "feather": 4}
    ).json()
    assert (wider["width"], wider["height"]) == (96, 96)
    assert "warnings" not in wider
    del body["images"], body["mask"]
    turned, other = (
        gateway.http.post("/api/generate", json=body | more).json()["image"]
        for more in (
            {"variations": [{"seed": 9, "strength": 1}]},
            {"options": {"seed": 9}},
        )
    )
    pictures = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one)))) for one in (turned, other)]
    assert (pictures[0] == pictures[1]).all()
    for more, complaint in (
        ({"variations": [{"seed": 9, "strength": 1}] * 2}, "variations: 2 were given"),
        ({"feather": "soft"}, "feather: "),
    ):
        assert complaint in gateway.http.post("/api/generate", json=body | more).json()["error"]
    feathered = gateway.http.post("/api/generate", json={"model": "toy", "prompt": "hi", "feather": 3})
    assert feathered.json()["error"] == "feather: it is for models that draw pictures"
    on_text = gateway.http.post("/api/generate", json={"model": "toy", "prompt": "The sea", "mask": "x"})
    assert on_text.json()["error"] == "mask: this model reads text alone"


# -- embed


def test_texts_become_vectors(client: Any) -> None:
    vectors = client.embed("toy", input=["The sea", "The land"])
    assert len(vectors.embeddings) == 2
    assert sum(value * value for value in vectors.embeddings[0]) == pytest.approx(1, abs=1e-4)
    assert vectors.prompt_eval_count > 0
    assert vectors.total_duration > 0
    one = client.embed("toy", input="The sea", truncate=True, dimensions=8)
    assert len(one.embeddings[0]) == 8
    former = client.embeddings("toy", prompt="The sea")
    assert former.embedding == pytest.approx(vectors.embeddings[0], abs=1e-5)
    refused(lambda: client.embed("klein", input="The sea"), "draws pictures")


def test_texts_that_are_too_long_are_cut_unless_that_is_forbidden(client: Any) -> None:
    long = "The sea is blue, and the sky above it. " * 500
    vectors = client.embed("toy", input=long)
    assert vectors.prompt_eval_count == client.show("toy").modelinfo["qwen3.context_length"]
    refused(lambda: client.embed("toy", input=long, truncate=False), "do not fit")
    short = client.embed("toy", input="The sea is blue", options={"num_ctx": 2})
    assert short.prompt_eval_count == 2
    refused(
        lambda: client.embed("toy", input="The sea is blue", truncate=False, options={"num_ctx": 2}),
        "do not fit",
    )


# -- what cannot be done


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"template": "{{ foo .Prompt }}"}, "template: line 1: the function 'foo' is not supported"),
        ({"template": "{{ if .System }}"}, "template: it ends inside of a block"),
        ({"raw": True, "template": "{{ .Prompt }}"}, "raw"),
        ({"raw": True, "context": [1, 2]}, "raw"),
        ({"context": [10**6]}, "context: 1000000 is not a token of this model"),
        ({"images": [base64.b64encode(b"picture").decode()]}, "images"),
        ({"width": 64}, "width"),
        ({"raw": True, "system": "Be brief."}, "raw"),
        ({"options": {"speculate": "always"}}, "options.speculate"),
        ({"options": {"speculate": -1}}, "options.speculate"),
        ({"options": {"temperature": "hot"}}, "options.temperature"),
        ({"keep_alive": "soon"}, "keep_alive"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(client: Any, fields: Any, words: str) -> None:
    refused(lambda: generate(client, **fields), words)
    with pytest.raises(ollama.ResponseError, match=words):
        list(generate(client, stream=True, **fields))


def test_a_chat_refuses_pictures_and_unknown_roles(client: Any) -> None:
    picture = [{**ASK[0], "images": [base64.b64encode(b"picture").decode()]}]
    refused(lambda: chat(client, messages=picture), "reads? only text")
    refused(lambda: chat(client, messages=[{"role": "wizard", "content": "x"}]), "role")
    refused(lambda: chat(client, model="klein"), "draws pictures")
    refused(lambda: chat(client, model="nobody"), "model 'nobody' not found", 404)
    refused(lambda: client.embed("nobody:latest", "x"), "model 'nobody:latest' not found", 404)
    refused(lambda: generate(client, model="klein", system="x"), "system")


def test_hints_and_unknown_fields_are_taken_and_named(gateway: Gateway) -> None:
    """What clients send as a matter of course: Continue, Open WebUI, LangChain."""
    options = {
        "num_predict": 2,
        "num_gpu": 1,
        "num_thread": 8,
        "use_mmap": True,
        "mirostat": 0,
        "mirostat_tau": 5.0,
        "typical_p": 0.7,
        "nonsense": [1],
    }
    body = {"model": "toy", "prompt": "x", "stream": False, "options": options, "runner": "mlx"}
    answer = gateway.http.post("/api/generate", json=body).json()
    named = {warning.split()[0].removeprefix("options.") for warning in answer["warnings"]}
    assert named == {"num_gpu", "num_thread", "use_mmap", "mirostat_tau", "typical_p", "nonsense", "runner"}
    assert gateway.http.post(
        "/api/generate", json={**body, "options": {"num_predict": 2}, "runner": None}
    ).json()


def test_numbers_are_taken_as_text_and_cut_where_whole_ones_are_needed(client: Any) -> None:
    plain = generate(client).response
    strange = {"seed": "3", "num_predict": 12.7, "temperature": "0.8", "top_k": 40.5, "num_ctx": -1}
    assert generate(client, options=strange).response == plain
    assert generate(client, options={**OPTIONS, "top_k": -1}).response == generate(client, options={**OPTIONS, "top_k": 0}).response  # fmt: skip


def test_a_context_is_a_limit_and_never_more_than_the_model_has(client: Any) -> None:
    used = generate(client, raw=True).prompt_eval_count
    short = client.generate(
        "toy", "The sea", raw=True, options={"seed": 3, "num_ctx": used + 4, "num_predict": 4}
    )
    assert (short.eval_count, short.done_reason) == (4, "length")
    large = generate(client, raw=True, options={**OPTIONS, "num_ctx": 10**9})
    assert large.response == generate(client, raw=True).response
    assert "10" in large.warnings[0] if hasattr(large, "warnings") else True


def test_a_chat_loses_its_oldest_messages_where_it_exceeds_the_context(gateway: Gateway, client: Any) -> None:
    """As Ollama does it; the answer says so, and ends where the context does."""
    turns = [{"role": role, "content": "The sea is blue and wide."} for role in ("user", "assistant")] * 20
    messages = [{"role": "system", "content": "Be brief."}, *turns, *ASK]
    limit = chat(client).prompt_eval_count + 60
    options = {"seed": 3, "num_ctx": limit}
    body = {"model": "toy", "messages": messages, "stream": False, "shift": False, "options": options}
    answer = gateway.http.post("/api/chat", json=body).json()
    assert answer["prompt_eval_count"] <= limit * 7 // 8
    assert answer["prompt_eval_count"] + answer["eval_count"] == limit
    assert answer["done_reason"] == "length"
    assert any("oldest messages were left out" in warning for warning in answer["warnings"])
    refused = gateway.http.post("/api/chat", json={**body, "truncate": False})
    assert refused.status_code == 400
    assert f"do not fit into the context of {limit} tokens" in refused.json()["error"]


def test_a_prompt_that_is_too_long_loses_tokens_behind_its_beginning(gateway: Gateway) -> None:
    body = {"model": "toy", "prompt": "sea " * 200, "raw": True, "stream": False, "options": {"num_ctx": 64, "num_predict": 4, "num_keep": 8}}  # fmt: skip
    answer = gateway.http.post("/api/generate", json=body).json()
    assert answer["prompt_eval_count"] == 8 + 28
    assert answer["warnings"][0].endswith("all do not fit into the context of 64 tokens")
    refused = gateway.http.post("/api/generate", json={**body, "truncate": False})
    assert (refused.status_code, "do not fit into the context of 64" in refused.json()["error"]) == (
        400,
        True,
    )


def test_a_text_goes_on_where_its_context_is_full_unless_that_is_forbidden(gateway: Gateway) -> None:
    """The toy never ends by itself with this seed."""
    body = {"model": "toy", "prompt": "The sea", "stream": False, "options": {"seed": 3, "num_ctx": 64, "num_predict": 100}}  # fmt: skip
    answer = gateway.http.post("/api/generate", json=body).json()
    assert (answer["eval_count"], answer["done_reason"]) == (100, "length")
    assert answer["warnings"][-1].startswith("shift: the context of 64 tokens was full ")
    still = gateway.http.post("/api/generate", json={**body, "shift": False}).json()
    assert still["prompt_eval_count"] + still["eval_count"] == 64
    assert answer["response"].startswith(still["response"].rstrip("\ufffd"))
    chatted = gateway.http.post("/api/chat", json={**body, "messages": ASK}).json()
    assert chatted["eval_count"] == 100


def test_a_context_goes_out_and_comes_back_in(client: Any, gateway: Gateway) -> None:
    first = generate(client)
    assert len(first.context) == first.prompt_eval_count + first.eval_count
    second = generate(client, context=first.context)
    assert second.prompt_eval_count == len(first.context) + first.prompt_eval_count
    assert list(second.context[: len(first.context)]) == list(first.context)
    assert generate(client, raw=True).context is None
    lines = list(generate(client, stream=True, context=first.context))
    assert lines[-1].context == second.context
    assert all(line.context is None for line in lines[:-1])


def test_bodies_that_are_no_requests_are_400s(gateway: Gateway) -> None:
    for path in ("/api/generate", "/api/chat", "/api/embed", "/api/embeddings", "/api/show"):
        for body in (b"", b"nonsense", b"[]", b"{}", b'{"model": 3}', b'{"model": "toy", "messages": 3, "prompt": {}, "input": {}, "name": 3}'):  # fmt: skip
            answer = gateway.http.post(path, content=body)
            assert answer.status_code == 400, (path, body, answer.text)
            assert isinstance(answer.json()["error"], str)


def test_a_picture_is_drawn_with_adapters(gateway: Gateway) -> None:
    body = {"model": "klein", "prompt": "a boat", "width": 64, "height": 64, "steps": 1, "stream": False,
            "options": {"seed": 7}}  # fmt: skip
    plain, inked = (
        gateway.http.post("/api/generate", json=body | more).json()["image"]
        for more in ({}, {"loras": [{"name": "ink"}]})
    )
    assert plain != inked
    answer = gateway.http.post("/api/generate", json=body | {"loras": [{"name": "/etc/passwd"}]})
    assert (answer.status_code, "there is no adapter" in answer.text) == (404, True)
    text = gateway.http.post(
        "/api/generate", json={"model": "toy", "prompt": "hi", "loras": [{"name": "ink"}]}
    )
    assert (text.status_code, "loras: adapters are for models that draw pictures" in text.text) == (400, True)


def test_the_adapters_of_the_machine_are_listed(gateway: Gateway) -> None:
    (ink,) = gateway.http.get("/loras").json()["loras"]
    assert (ink["name"], ink["source"], ink["model"]) == ("ink", "folder", "FLUX")
    assert ink["bytes"] > 1000
