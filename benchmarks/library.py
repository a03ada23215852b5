"""mlx-lm used as a library, with no server: how far away a server is from what it is built on.

Prints one JSON object: tokens a second of stream_generate for one client, or of BatchGenerator for several.
"""

import argparse
import json
import time

import mlx_lm
from mlx_lm.generate import BatchGenerator


def one(model, tokenizer, prompt: str, tokens: int) -> float:
    began = time.perf_counter()
    count = sum(1 for _ in mlx_lm.stream_generate(model, tokenizer, prompt, max_tokens=tokens))
    return count / (time.perf_counter() - began)


def several(model, tokenizer, prompts: list[str], tokens: int) -> float:
    generator = BatchGenerator(model, max_tokens=tokens)
    began = time.perf_counter()
    generator.insert([tokenizer.encode(prompt) for prompt in prompts], [tokens] * len(prompts))
    left = len(prompts)
    count = 0
    while left:
        _, responses = generator.next()
        count += len(responses)
        left -= sum(response.finish_reason is not None for response in responses)
    took = time.perf_counter() - began
    generator.close()
    return count / took


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model")
    parser.add_argument("--clients", type=int, default=1)
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--prompt", default="The harbour wakes before the town does, and the gulls know it.")
    chosen = parser.parse_args()
    model, tokenizer = mlx_lm.load(chosen.model)
    prompts = [f"{number}. {chosen.prompt}" for number in range(chosen.clients)]

    def run(tokens: int) -> float:
        if chosen.clients == 1:
            return one(model, tokenizer, prompts[0], tokens)
        return several(model, tokenizer, prompts, tokens)

    run(16)  # compiles and warms
    print(json.dumps({"tokens_per_second": run(chosen.tokens)}))


if __name__ == "__main__":
    main()
