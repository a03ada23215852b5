"""langchain-ollama: chats with tools, structured answers, vectors."""

from typing import Any, Literal

from tests.optional import needed
from tests.runner.gateway.live import Gateway

langchain = needed("langchain_ollama", reason="the clients group is not installed")


def look(at: Literal["sea", "land"], far: bool = False) -> str:
    """Looks somewhere."""
    return f"{at} is blue, {far}"


def model(gateway: Gateway, name: str, **fields: Any) -> Any:
    return langchain.ChatOllama(
        model=name, base_url=gateway.url, seed=3, num_ctx=2048, num_gpu=1, num_thread=2, keep_alive="5m",
        client_kwargs={"timeout": 120}, **fields,
    )  # fmt: skip


def test_a_chat_with_a_tool(calling: Gateway) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    caller = model(calling, "caller", reasoning=True, validate_model_on_init=True).bind_tools([look])
    request = HumanMessage("Why is the sea blue?")
    called = caller.invoke([request])
    assert [(call["name"], call["args"]) for call in called.tool_calls] == [
        ("look", {"at": "sea", "far": True}),
        ("wait", {}),
    ]
    assert called.additional_kwargs["reasoning_content"] == "The sea, then."
    first, second = called.tool_calls
    answered = [
        ToolMessage(look(**first["args"]), tool_call_id=first["id"]),
        ToolMessage("waited", tool_call_id=second["id"]),
    ]
    said = caller.invoke([request, called, *answered])
    assert said.usage_metadata["input_tokens"] > called.usage_metadata["input_tokens"]


def test_texts_are_streamed_and_follow_schemas(gateway: Gateway) -> None:
    toy = model(gateway, "toy", num_predict=200)
    pieces = list(model(gateway, "toy", num_predict=8).stream("Why is the sea blue?"))
    assert "".join(str(piece.content) for piece in pieces)
    schema = {"title": "harbour", "type": "object", "properties": {"boats": {"enum": [1, 17]}},
              "required": ["boats"], "additionalProperties": False}  # fmt: skip
    actual = toy.with_structured_output(schema, method="json_schema").invoke("How many boats?")
    assert actual["boats"] in (1, 17)


def test_texts_become_vectors(gateway: Gateway) -> None:
    embeddings = langchain.OllamaEmbeddings(model="toy", base_url=gateway.url)
    assert [len(vector) for vector in embeddings.embed_documents(["The sea", "The land"])] == [64, 64]
