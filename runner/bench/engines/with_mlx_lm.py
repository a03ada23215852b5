"""mlx-lm used as a library, without a server: what a server could reach at most."""

import time
from typing import Any

from runner.engine import device

device.prepare()  # a BLAS, where there is no GPU, before MLX is imported

import mlx.core as mx  # noqa: E402
import mlx_lm  # noqa: E402
from mlx_lm.generate import BatchGenerator  # noqa: E402
from mlx_lm.models.cache import make_prompt_cache  # noqa: E402


class GreedyLoop:
    """A network with its cache and nothing else: the likeliest token, and each step queued before the last is read."""

    def __init__(self, model: Any, prompts: list[list[int]]) -> None:
        """Reads the prompts, which are of one length."""
        self._model, self._cache = model, make_prompt_cache(model)
        self._token = self._next(mx.array(prompts))
        mx.eval(self._token)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            following = self._next(self._token[:, None])
            mx.async_eval(following)  # type: ignore[no-untyped-call]
            self._token.tolist()
            self._token = following
        self._token.tolist()

    def _next(self, tokens: mx.array) -> mx.array:
        return mx.argmax(self._model(tokens, cache=self._cache)[:, -1], axis=-1)


class Engine:
    def __init__(self, name: str, job: dict[str, Any]) -> None:
        began = time.perf_counter()
        self.model, self.tokenizer = mlx_lm.load(job["folder"])[:2]
        self.built = {"load": [time.perf_counter() - began]}

    def _speed(self, count: int, began: float) -> dict[str, float]:
        """Tokens a second. Returns unused memory, since others share the device."""
        seconds = time.perf_counter() - began
        mx.clear_cache()
        return {"tokens_per_second": count / seconds}

    def write(self, prompts: list[str], tokens: int) -> dict[str, float]:
        """Tokens a second of stream_generate for one prompt, or of BatchGenerator for several."""
        if len(prompts) == 1:
            began = time.perf_counter()
            count = sum(
                1 for _ in mlx_lm.stream_generate(self.model, self.tokenizer, prompts[0], max_tokens=tokens)
            )
            return self._speed(count, began)
        return self._together(prompts, tokens)

    def decode(self, prompts: list[str], tokens: int) -> dict[str, float]:
        """Tokens a second of mlx-lm's network alone, after the prompts, which are cut to the shortest."""
        encoded = [self.tokenizer.encode(prompt) for prompt in prompts]
        length = min(map(len, encoded))
        loop = GreedyLoop(self.model, [ids[:length] for ids in encoded])
        began = time.perf_counter()
        loop.run(tokens)
        return self._speed(tokens * len(prompts), began)

    def _together(self, prompts: list[str], tokens: int) -> dict[str, float]:
        generator = BatchGenerator(
            self.model,
            max_tokens=tokens,
            completion_batch_size=len(prompts),
            prefill_batch_size=len(prompts),
        )
        began = time.perf_counter()
        generator.insert([self.tokenizer.encode(prompt) for prompt in prompts], [tokens] * len(prompts))
        left, count = len(prompts), 0
        while left:
            _, responses = generator.next()
            count += len(responses)
            left -= sum(response.finish_reason is not None for response in responses)
        figures = self._speed(count, began)
        generator.close()
        return figures
