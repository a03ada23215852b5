#!/usr/bin/env bash
# Requests to `diptych serve shapes shapes-chat` with curl alone: bash samples/with_curl.sh
set -euo pipefail
at=http://127.0.0.1:${DIPTYCH_PORT:-11435}
ask() { curl --no-buffer --silent --show-error --fail-with-body "$@"; }

echo "An answer, one token per line:"
ask $at/completion -d '{"model": "shapes-chat", "messages": [{"role": "user", "content": "a circle"}]}'

echo "A picture, one step per line; the last line holds the picture:"
ask $at/completion -d '{"model": "shapes", "prompt": "a red circle above a blue square", "seed": 1}' | cut -c -60

echo "The same picture as a file through the OpenAI API, and an edit of it:"
picture='s/.*"b64_json": *"\([^"]*\)".*/\1/p'
ask $at/v1/images/generations -d '{"model": "shapes", "prompt": "a red circle above a blue square", "seed": 1}' |
    sed -n "$picture" | base64 --decode > drawn.png
ask $at/v1/images/edits -F model=shapes -F prompt="make the circle green" -F image=@drawn.png -F seed=1 |
    sed -n "$picture" | base64 --decode > edited.png
ls drawn.png edited.png

echo "The beginning of the embedding of a text:"
ask $at/v1/embeddings -d '{"model": "shapes-chat", "input": "a red circle"}' | cut -c -120
echo
