"""The nodes. Each takes the gateway's address and a model's name; DIPTYCH_API_KEY is its key, if it needs one."""

import base64
import io
import json
import os
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import torch
from PIL import Image

CATEGORY = "Diptych"
SERVER = ("STRING", {"default": "http://127.0.0.1:11435"})
MODEL = ("STRING", {"default": ""})
PROMPT = ("STRING", {"default": "", "multiline": True})
SEED = ("INT", {"default": 0, "min": 0, "max": 2**63 - 1})
SIDE = {"default": 1024, "min": 64, "max": 4096, "step": 16}
STEPS = ("INT", {"default": 0, "min": 0, "max": 1000, "tooltip": "0: the model's default"})
TIMEOUT = 3600.0  # a model may have to be loaded first


def ask(server: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The gateway's answer; its own words if it refuses."""
    if not server.startswith(("http://", "https://")):
        raise ValueError(f"server: {server!r} is no address; it begins with http:// or https://")
    headers = {"content-type": "application/json"}
    if key := os.environ.get("DIPTYCH_API_KEY"):
        headers["authorization"] = f"Bearer {key}"
    request = urllib.request.Request(server.rstrip("/") + path, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
            return dict(json.load(response))
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{server} answers {error.code}: {_reason(error.read())}") from None
    except urllib.error.URLError as error:
        raise RuntimeError(f"{server} cannot be reached: {error.reason}") from None


def _reason(body: bytes) -> str:
    try:
        error = json.loads(body)["error"]
        return str(error["message"] if isinstance(error, dict) else error)
    except (ValueError, KeyError, TypeError):
        return body[:200].decode("utf-8", "replace")


def to_tensor(answer: dict[str, Any]) -> torch.Tensor:
    """The pictures of an answer as ComfyUI has them: a batch of rows, columns and colours, from 0 to 1."""
    pictures = [
        Image.open(io.BytesIO(base64.b64decode(one["b64_json"]))).convert("RGB") for one in answer["data"]
    ]
    arrays = [np.asarray(picture, dtype=np.float32) / 255 for picture in pictures]
    return torch.from_numpy(np.stack(arrays))


def to_urls(images: torch.Tensor) -> list[str]:
    """A batch of pictures, or one, as data URIs."""
    batch = images if images.ndim == 4 else images[None]
    return [_url(Image.fromarray(pixels)) for pixels in _bytes(batch)]


def to_mask(mask: torch.Tensor) -> str:
    """A mask of ComfyUI, in which 1 is to be drawn anew; OpenAI's is transparent there."""
    pixels = _bytes(mask if mask.ndim == 2 else mask[0])
    picture = Image.new("RGBA", (pixels.shape[1], pixels.shape[0]))
    picture.putalpha(Image.fromarray(255 - pixels))
    return _url(picture)


def _bytes(values: torch.Tensor) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return (values.detach().cpu().clamp(0, 1).numpy() * 255).round().astype(np.uint8)


def _url(picture: Image.Image) -> str:
    file = io.BytesIO()
    picture.save(file, "PNG")
    return "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()


class DiptychText:
    """A prompt, and pictures for models that see, to a text."""

    CATEGORY = CATEGORY
    FUNCTION = "write"
    RETURN_TYPES = ("STRING",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "server": SERVER,
                "model": MODEL,
                "prompt": PROMPT,
                "seed": SEED,
                "max_tokens": ("INT", {"default": 512, "min": 1, "max": 2**20}),
                "temperature": ("FLOAT", {"default": 0.7, "min": 0.0, "max": 2.0, "step": 0.05}),
            },
            "optional": {"system": PROMPT, "image": ("IMAGE",)},
        }

    def write(
        self,
        server: str,
        model: str,
        prompt: str,
        seed: int,
        max_tokens: int,
        temperature: float,
        system: str = "",
        image: torch.Tensor | None = None,
    ) -> tuple[str]:
        content: Any = prompt
        if image is not None:
            pictures = [{"type": "image_url", "image_url": {"url": url}} for url in to_urls(image)]
            content = [*pictures, {"type": "text", "text": prompt}]
        messages = [{"role": "system", "content": system}] if system else []
        body = {
            "model": model,
            "messages": [*messages, {"role": "user", "content": content}],
            "seed": seed,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        answer = ask(server, "/v1/chat/completions", body)
        return (answer["choices"][0]["message"]["content"] or "",)


class DiptychPicture:
    """A prompt to pictures."""

    CATEGORY = CATEGORY
    FUNCTION = "draw"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "server": SERVER,
                "model": MODEL,
                "prompt": PROMPT,
                "seed": SEED,
                "width": ("INT", SIDE),
                "height": ("INT", SIDE),
                "steps": STEPS,
                "count": ("INT", {"default": 1, "min": 1, "max": 10}),
            }
        }

    def draw(
        self, server: str, model: str, prompt: str, seed: int, width: int, height: int, steps: int, count: int
    ) -> tuple[torch.Tensor]:
        body = {"model": model, "prompt": prompt, "seed": seed, "size": f"{width}x{height}", "n": count}
        return (to_tensor(ask(server, "/v1/images/generations", body | _steps(steps))),)


class DiptychEdit:
    """Pictures and a prompt to one picture; with a mask, what is not masked stays."""

    CATEGORY = CATEGORY
    FUNCTION = "edit"
    RETURN_TYPES = ("IMAGE",)

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {
            "required": {
                "server": SERVER,
                "model": MODEL,
                "image": ("IMAGE",),
                "prompt": PROMPT,
                "seed": SEED,
                "steps": STEPS,
            },
            "optional": {"mask": ("MASK",)},
        }

    def edit(
        self,
        server: str,
        model: str,
        image: torch.Tensor,
        prompt: str,
        seed: int,
        steps: int,
        mask: torch.Tensor | None = None,
    ) -> tuple[torch.Tensor]:
        height, width = image.shape[-3:-1]
        body = {
            "model": model,
            "prompt": prompt,
            "seed": seed,
            "size": f"{width}x{height}",
            "images": [{"image_url": url} for url in to_urls(image)],
        }
        masked = {} if mask is None else {"mask": {"image_url": to_mask(mask)}}
        return (to_tensor(ask(server, "/v1/images/edits", body | masked | _steps(steps))),)


def _steps(steps: int) -> dict[str, int]:
    return {"steps": steps} if steps else {}


NODE_CLASS_MAPPINGS = {
    "DiptychText": DiptychText,
    "DiptychPicture": DiptychPicture,
    "DiptychEdit": DiptychEdit,
}
NODE_DISPLAY_NAME_MAPPINGS = {
    "DiptychText": "Text (Diptych)",
    "DiptychPicture": "Picture (Diptych)",
    "DiptychEdit": "Edit (Diptych)",
}
