"""How many tokens' keys and values a runner may hold at a time, in texts that are being written."""

import logging
from dataclasses import dataclass

from models.language.decode.row_groups import GROWTH
from models.language.load import LanguageModel
from runner.engine import device
from runner.errors import BadRequest
from runner.hardware import available_memory
from runner.units import GIB, show_size

log = logging.getLogger("diptych.text")

# At most, beside weights, caches and the memory of other programs, for the work itself.
WORKING_ROOM = 2 * GIB
# Of what is left after that.
SHARE = 0.9
# Padding that rows of one forward pass may have at most.
MOST_PADDING = 4 * GIB
# Tokens that any model gets by default, however little memory is left: less would not be of use.
LEAST = 4096


@dataclass(frozen=True)
class KVMemory:
    """`tokens`: how many may be held; None: the model keeps nothing that grows. `context`: the longest text."""

    bytes: int
    tokens: int | None
    context: int
    most_padding: int
    why_shorter: str = ""  # why the context is not all of the model's

    def report(self) -> None:
        if self.tokens is not None:
            log.info(
                "keys and values of running texts: up to %s, %d tokens", show_size(self.bytes), self.tokens
            )


def kv_memory(
    model: LanguageModel,
    chosen: int | None,
    prefix_bytes: int,
    room: int | None,
    draft: LanguageModel | None = None,
) -> KVMemory:
    """By what was chosen (`--kv-memory`), else by what is left beside the weights and the prefix cache; a gateway has `room`
    for all of its models. A draft model keeps keys and values of the same tokens."""
    per_token = model.bytes_per_token()
    if not per_token:
        return KVMemory(0, None, model.context, 2**30)
    per_token += draft.bytes_per_token() if draft is not None else 0
    size = chosen
    if size is None:
        limits = [memory_left(), *([] if room is None else [room - device.active_memory()])]
        left = max(min(limits), 0)
        # On a small machine neither takes most of it; the prefix cache is used by texts that have ended.
        beside = min(WORKING_ROOM, left // 4) + min(prefix_bytes, left // 4)
        size = max(int((left - beside) * SHARE), LEAST * per_token)
    tokens = size // per_token
    if tokens < 2 * GROWTH:
        raise BadRequest(
            f"--kv-memory: {show_size(size)} holds {tokens} tokens of this model; at least "
            f"{show_size(2 * GROWTH * per_token)} is needed"
        )
    padding = min(MOST_PADDING // per_token, tokens // 4)
    longest = tokens // GROWTH * GROWTH - 1
    if longest >= model.context:
        return KVMemory(size, tokens, model.context, padding)
    why = f"the model has {model.context}, and --kv-memory is {show_size(size)}"
    return KVMemory(size, tokens, longest, padding, why)


def memory_left() -> int:
    """What the device has beside what is held."""
    if device.has_gpu():
        return device.usable_memory() - device.active_memory()
    available = available_memory()
    return device.memory() - device.active_memory() if available is None else available
