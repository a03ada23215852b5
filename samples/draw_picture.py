"""Draws a picture with previews, using the openai package: `python samples/draw_picture.py "a green star"`.

Needs a running `diptych serve shapes shapes-chat`. Any other model that the gateway serves works as well.
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

port = os.environ.get("DIPTYCH_PORT", "11435")
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

stream = client.images.generate(
    model="shapes",
    prompt=sys.argv[1] if len(sys.argv) > 1 else "a red circle above a blue square",
    stream=True,
    partial_images=3,
    extra_body={"seed": 1},
)
for event in stream:
    if event.type == "image_generation.partial_image":
        print(f"preview {event.partial_image_index + 1}")
    else:
        Path("drawn.png").write_bytes(base64.b64decode(event.b64_json))
        print("drawn.png")
