"""How near texts are to each other, with the openai package: `python samples/embed_texts.py "a red circle" "a blue square"`.

Asks `diptych serve shapes shapes-chat`; another model that it serves can stand in the sample's place.
"""

import os
import sys

import numpy as np
from openai import OpenAI

port = os.environ.get("DIPTYCH_PORT", "11435")
client = OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none")

texts = sys.argv[1:] or ["a red circle", "a scarlet disc", "two blue squares on a black background"]
answer = client.embeddings.create(model="shapes-chat", input=texts)
vectors = np.array([item.embedding for item in answer.data])  # of length 1: their products are the cosines
for text, likeness in zip(texts, vectors @ vectors[0], strict=True):
    print(f"{likeness:.3f}  {text}")
