"""A program with its own runners, without a gateway: `python samples/own_program.py "a green star"`.

It starts them, asks them, and stops them when it ends (docs/server.md).
"""

import asyncio
import sys
from pathlib import Path

from runner.inspect.sample import sample
from runner.process.supervisor import Server
from runner.protocol.image import ImageCompletionRequest, ImageDone, ImageStep, from_base64
from runner.protocol.text import Message, TextRequest
from runner.sources import ModelMode


async def main(prompt: str) -> None:
    async with Server(sample(ModelMode.TEXT)) as writer:
        request = TextRequest(messages=[Message("user", prompt)])
        async for event in writer.completion(request):
            print(event.content or "", end="", flush=True)
        print()

    async with Server(sample(ModelMode.IMAGE)) as painter:
        async for event in painter.completion(ImageCompletionRequest(prompt=prompt, seed=1)):
            if isinstance(event, ImageStep):
                print(f"step {event.step} of {event.total}")
            elif isinstance(event, ImageDone) and event.image:
                save(from_base64(event.image))


def save(png: bytes) -> None:
    Path("drawn.png").write_bytes(png)
    print("drawn.png")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "a red circle above a blue square"))
