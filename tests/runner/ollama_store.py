"""An Ollama store on the disk, as Ollama writes it."""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file, save

MEDIA = "application/vnd.ollama.image."


def blob(root: Path, content: bytes) -> str:
    """The digest under which the store keeps some bytes."""
    digest = hashlib.sha256(content).hexdigest()
    target = root / "blobs" / f"sha256-{digest}"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(content)
    return f"sha256:{digest}"


def layer(root: Path, kind: str, name: str, content: Any) -> dict[str, Any]:
    raw = content if isinstance(content, bytes) else json.dumps(content).encode()
    entry = {"mediaType": MEDIA + kind, "digest": blob(root, raw), "size": len(raw)}
    return entry | ({"name": name} if name else {})


def store_model(root: Path, path: str, folder: Path, **beside: Any) -> Path:
    """A model of one weight file, as it lies in a folder, put into the store; `beside` are its params, system, …"""
    files = {file.name: file.read_bytes() for file in folder.iterdir()}
    weights = layer(root, "tensor", "weights", files.pop("model.safetensors"))
    texts = [layer(root, "json", name, content) for name, content in files.items()]
    others = [
        layer(root, kind, "", content.encode() if isinstance(content, str) else content)
        for kind, content in beside.items()
    ]
    return manifest(root, path, [weights, *texts, *others])


def store_pipeline(root: Path, path: str, folder: Path) -> Path:
    """A picture model in the layout of diffusers, put into the store: a blob a tensor."""
    layers = []
    for file in sorted(each for each in folder.rglob("*") if each.is_file()):
        name = file.relative_to(folder).as_posix()
        if file.suffix == ".safetensors":
            component = name.rpartition("/")[0]
            layers += [
                layer(root, "tensor", f"{component}/{key}", save({"data": value}))
                for key, value in load_file(file).items()
            ]
        else:
            layers.append(layer(root, "json", name, file.read_bytes()))
    return manifest(root, path, layers)


def manifest(root: Path, path: str, layers: Iterable[Any], **changes: Any) -> Path:
    content = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": layer(root, "config", "", {"model_format": "safetensors"}),
        "layers": list(layers),
    }
    target = root / "manifests" / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(content | changes))
    return target
