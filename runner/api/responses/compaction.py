"""POST /v1/responses/compact: a conversation as its user's messages and a summary of the rest."""

import time
from contextlib import aclosing
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from msgspec.structs import replace

from runner.api.openai.chat_stream import ChatAnswer
from runner.api.responses.chat import Responses
from runner.api.responses.history import History, read_history
from runner.api.responses.items import kind_of_item, listed
from runner.api.responses.output import new_id
from runner.api.responses.request import Prompted, check_input
from runner.api.responses.schemas import Compacted, CompactionItem
from runner.api.responses.sealed import seal
from runner.api.responses.usage import response_usage
from runner.gateway.app import Gateway
from runner.protocol.text import Message, parse

INSTRUCTION = (
    "Summarize this conversation for yourself, so that you can go on with it without having read it: what the user "
    "wants, what was done and found out, decisions, names, numbers and files that matter, and what is still to do. "
    "Write only the summary."
)
MOST_TOKENS = 2048


class CompactRequest(Struct, frozen=True, kw_only=True):
    model: Annotated[str, Meta(min_length=1)]
    input: str | list[dict[str, Any]] | None = None
    instructions: str | None = None
    previous_response_id: str | None = None


async def compact(gateway: Gateway, owner: str, body: dict[str, Any], id: str) -> Compacted:
    fields = parse(CompactRequest, body)
    request = parse(Prompted, {**msgspec.to_builtins(fields), "truncation": "auto"})
    check_input(request)
    history = await read_history(gateway.store, owner, request)
    responses = Responses({"think": False}, request, history)
    chat = responses.chat
    chat.messages.append(Message("user", INSTRUCTION))
    chat.request = replace(chat.request, temperature=0.0, max_completion_tokens=MOST_TOKENS)
    answer, summary = ChatAnswer(gateway, chat, id), ""
    async with aclosing(answer.deltas()) as deltas:
        async for _, delta in deltas:
            summary += delta.content
    return Compacted(
        id=new_id("resp"),
        created_at=int(time.time()),
        output=[*_user_messages(history), msgspec.to_builtins(CompactionItem(new_id("cmp"), seal(summary)))],
        usage=response_usage(answer.usage()),
        warnings=[*responses.warnings, *answer.warnings],
    )


def _user_messages(history: History) -> list[dict[str, Any]]:
    items = [listed(item) for _, item in history.all if kind_of_item(item) == "message"]
    return [item for item in items if item.get("role") == "user"]
