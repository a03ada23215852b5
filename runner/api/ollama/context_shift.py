"""Texts that go on where the context is full, as Ollama's do: the oldest tokens are left out, and the rest is read again."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

from msgspec.structs import replace

from runner.gateway.lease import Lease
from runner.protocol.events import TextEvent
from runner.protocol.text import TextChunk, TextDone, TextRequest

# Of a text whose length is not limited, in contexts and in tokens.
MOST_CONTEXTS = 10
MOST_TOKENS = 16384


class ContextShift:
    """Runs one request, and those that continue its text."""

    def __init__(self, lease: Lease, request: TextRequest, id: str, shifts: bool) -> None:
        self._lease = lease
        self._request = request
        self._id = id
        self._shifts = shifts
        self._ended: TextDone | None = None  # of all requests so far
        self._count = 0
        self._thinking = False
        self.tokens: list[int] = []  # what was read and written last

    async def events(self) -> AsyncGenerator[TextEvent, None]:
        request = self._request
        while True:
            written: list[int] = []
            async with aclosing(self._lease.server.completion(request, id=self._id)) as events:
                async for event in events:
                    if isinstance(event, TextDone):
                        done = event
                        break
                    written.append(event.token)
                    self._thinking = bool(event.thinking) or (self._thinking and not event.content)
                    yield event
            self.tokens = [*(done.prompt_tokens or []), *written]
            self._ended = done = _sum(self._ended, done)
            if not self._goes_on(done):
                yield self._last(done)
                return
            if rest := (done.content or ""):
                yield TextChunk(rest, written[-1])
            self._count += 1
            request = self._next(request, done)

    def _goes_on(self, done: TextDone) -> bool:
        """Whether the context was full, not the text's end or limit reached. What a grammar or a call has begun cannot be
        continued, nor can a thought."""
        plain = self._request.format is None and not self._request.tools and not self._thinking
        full = bool(done.done_reason) and len(self.tokens) >= self._context
        return self._shifts and plain and full and bool(done.prompt_tokens) and done.eval_count < self._most

    @property
    def _context(self) -> int:
        longest = self._lease.server.context_length
        return min(self._request.options.num_ctx or longest, longest)

    @property
    def _most(self) -> int:
        limit = self._request.options.num_predict
        return limit if limit is not None and limit > 0 else min(MOST_CONTEXTS * self._context, MOST_TOKENS)

    def _next(self, request: TextRequest, done: TextDone) -> TextRequest:
        options = self._request.options
        seed = None if options.seed is None or options.seed < 0 else options.seed + self._count
        options = replace(options, num_predict=self._most - done.eval_count, seed=seed)
        return replace(
            request, prompt="", messages=None, context=self.tokens, truncate=True, options=options, think=None
        )

    def _last(self, done: TextDone) -> TextDone:
        if not self._count:
            return done
        times = "once" if self._count == 1 else f"{self._count} times"
        note = f"shift: the context of {self._context} tokens was full {times}, and the oldest tokens were left out"
        return replace(done, warnings=[*(done.warnings or []), note])


def _sum(former: TextDone | None, done: TextDone) -> TextDone:
    """The counts of a text that took several requests. The first has read the prompt."""
    if former is None:
        return done
    return replace(
        done,
        prompt_eval_count=former.prompt_eval_count,
        prompt_eval_duration=former.prompt_eval_duration,
        eval_count=former.eval_count + done.eval_count,
        eval_duration=former.eval_duration + done.prompt_eval_duration + done.eval_duration,
        cached=former.cached,
        drafted=former.drafted + done.drafted,
        accepted=former.accepted + done.accepted,
        warnings=former.warnings,
    )
