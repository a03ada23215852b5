"""A text as it is written, with the openai package: `python samples/stream_text.py "a green star"`.

Asks `diptych serve shapes shapes-chat`; another model that it serves can stand in the sample's place.
"""

import os
import sys

from openai import OpenAI

port = os.environ.get("DIPTYCH_PORT", "11435")
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

stream = client.chat.completions.create(
    model="shapes-chat",
    messages=[{"role": "user", "content": sys.argv[1] if len(sys.argv) > 1 else "a circle"}],
    stream=True,
)
for chunk in stream:
    print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
