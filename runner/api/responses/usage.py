"""The usage of a chat in the words of the Responses API."""

from runner.api.openai.schemas import Usage
from runner.api.responses.schemas import InputDetails, OutputDetails, ResponseUsage


def response_usage(usage: Usage) -> ResponseUsage:
    return ResponseUsage(
        usage.prompt_tokens,
        InputDetails(usage.prompt_tokens_details.cached_tokens),
        usage.completion_tokens,
        OutputDetails(usage.completion_tokens_details.reasoning_tokens),
        usage.total_tokens,
    )
