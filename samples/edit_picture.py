"""Edits a picture by a prompt, using the openai package: `python samples/edit_picture.py drawn.png "make the circle green"`.

Needs a running `diptych serve shapes shapes-chat`. Any other model that the gateway serves works as well.
"""

import base64
import os
import sys
from pathlib import Path

from openai import OpenAI

port = os.environ.get("DIPTYCH_PORT", "11435")
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

answer = client.images.edit(
    model="shapes",
    image=Path(sys.argv[1] if len(sys.argv) > 1 else "drawn.png"),
    prompt=sys.argv[2] if len(sys.argv) > 2 else "make the circle green",
    extra_body={"seed": 1},
)
Path("edited.png").write_bytes(base64.b64decode(answer.data[0].b64_json))
print("edited.png")
