"""Compares texts by their embeddings, using the openai package: `python samples/embed_texts.py "a red circle" "a blue square"`.

Needs a running `diptych serve shapes shapes-chat`. Any other model that the gateway serves works as well.
"""

import os
import sys

import numpy as np
from openai import OpenAI

port = os.environ.get("DIPTYCH_PORT", "11435")
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

texts = sys.argv[1:] or ["a red circle", "a scarlet disc", "two blue squares on a black background"]
answer = client.embeddings.create(model="shapes-chat", input=texts)
vectors = np.array(
    [item.embedding for item in answer.data]
)  # unit length, so dot products are cosine similarities
for text, similarity in zip(texts, vectors @ vectors[0], strict=True):
    print(f"{similarity:.3f}  {text}")
