"""A runner of one's own, without a gateway: `python samples/own_program.py "a green star"`.

The program starts it, asks it, and takes it along when it ends (docs/server.md).
"""

import asyncio
import base64
import sys
from pathlib import Path

from runner.inspect.sample import sample
from runner.process.supervisor import Server
from runner.sources import ModelMode


async def main(prompt: str) -> None:
    async with Server(sample(ModelMode.TEXT)) as writer:
        said = {"messages": [{"role": "user", "content": prompt}]}
        async for event in writer.completion(said):
            print(event.get("content", ""), end="", flush=True)
        print()

    async with Server(sample(ModelMode.IMAGE)) as painter:
        async for event in painter.completion({"prompt": prompt, "seed": 1}):
            if "image" in event:
                save(event["image"])
            elif "step" in event:
                print(f"step {event['step']} of {event['total']}")


def save(image: str) -> None:
    Path("drawn.png").write_bytes(base64.b64decode(image))
    print("drawn.png")


asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "a red circle above a blue square"))
