"""PyTorch with transformers' network of a language model: a static cache, one compiled step, the likeliest token."""

import time
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, StaticCache

DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
LEAST = 512  # of the lengths of caches, which are powers of two: each needs a compiled step of its own
MOST_SIZES = 64
WARM = 3  # steps until a CUDA graph is captured


class Engine:
    def __init__(self, name: str, job: dict[str, Any]) -> None:
        gpu = torch.cuda.is_available()
        self.device = torch.device("cuda" if gpu else "cpu")
        dtype = job["dtype"] or ("bfloat16" if gpu else "float32")
        began = time.perf_counter()
        self.tokenizer = AutoTokenizer.from_pretrained(job["folder"])
        model = AutoModelForCausalLM.from_pretrained(job["folder"], dtype=DTYPES[dtype])
        self.model = model.to(self.device).eval()
        self.built = {"dtype": dtype, "load": [time.perf_counter() - began]}
        torch._dynamo.config.recompile_limit = MOST_SIZES
        # CUDA graphs, where there is CUDA.
        self._step = torch.compile(
            self._next, mode="reduce-overhead" if gpu else None, fullgraph=True, dynamic=False
        )
        self._caches: dict[tuple[int, int], StaticCache] = {}

    def decode(self, prompts: list[str], tokens: int) -> dict[str, float]:
        """Tokens a second after the prompts, which are cut to the shortest."""
        encoded = [self.tokenizer(prompt)["input_ids"] for prompt in prompts]
        length = min(map(len, encoded))
        ids = torch.tensor([row[:length] for row in encoded], device=self.device)
        with torch.inference_mode():
            cache = self._cache(len(prompts), length + tokens)
            token = self._next(ids, cache)
            self._wait()
            began = time.perf_counter()
            for _ in range(tokens):
                # A clone, since the next replay of the graph writes to the same memory.
                token = self._step(token, cache).clone()
            self._wait()
            return {"tokens_per_second": tokens * len(prompts) / (time.perf_counter() - began)}

    def _next(self, tokens: torch.Tensor, cache: StaticCache) -> torch.Tensor:
        logits = self.model(tokens, cache=cache, use_cache=True, logits_to_keep=1).logits
        return logits[:, -1].argmax(dim=-1, keepdim=True)

    def _cache(self, rows: int, length: int) -> StaticCache:
        """An empty one, the same for a size: a compiled step is bound to its memory."""
        size = (rows, max(LEAST, 1 << (length - 1).bit_length()))
        if size not in self._caches:
            cache = self._caches[size] = StaticCache(config=self.model.config, max_cache_len=size[1])
            token = torch.zeros((rows, 1), dtype=torch.long, device=self.device)
            token = self._next(token, cache)
            for _ in range(WARM):
                token = self._step(token, cache).clone()
        self._caches[size].reset()
        return self._caches[size]

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
