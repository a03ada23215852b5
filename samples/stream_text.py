"""Prints an answer as it is generated, using the openai package: `python samples/stream_text.py "a green star"`.

Needs a running `diptych serve shapes shapes-chat`. Any other model that the gateway serves works as well.
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
