"""langchain-openai: a chat in which a tool is called and its answer read."""

from typing import Literal

import pytest

from tests.optional import needed
from tests.runner.gateway.live import Gateway
from tests.waiting import PATIENCE

langchain = needed("langchain_openai", reason="the clients group is not installed")


def look(at: Literal["sea", "land"]) -> str:
    """Looks somewhere."""
    return f"{at} is blue"


@pytest.mark.parametrize("responses", [False, True], ids=["chat", "responses"])
def test_a_chat_with_a_tool(gateway: Gateway, responses: bool) -> None:
    from langchain_core.messages import HumanMessage, ToolMessage

    model = langchain.ChatOpenAI(
        model="toy",
        base_url=f"{gateway.url}/v1",
        api_key="none",
        max_tokens=200,
        extra_body={"seed": 3},
        timeout=PATIENCE,
        use_responses_api=responses,
    )
    request = HumanMessage("Why is the sea blue?")
    called = model.bind_tools([look], tool_choice="required", strict=True).invoke([request])
    (call,) = called.tool_calls
    assert call["name"] == "look"
    answered = ToolMessage(look(**call["args"]), tool_call_id=call["id"])
    said = model.bind_tools([look], tool_choice="none").invoke([request, called, answered])
    assert said.text
    assert said.usage_metadata["output_tokens"] > 0
    streamed = list(model.stream([request]))
    assert "".join(str(piece.text) for piece in streamed)
