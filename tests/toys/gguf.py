"""The toys as GGUF files: the same weights, the same tokenizer, the same template."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from safetensors.numpy import load_file

from tests.gguf_files import write_gguf
from tests.models.language.gguf.convert import metadata, tensors
from tests.toys import toy_text

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, BYTE = 1, 2, 3, 4, 6
FAMILIES = ("llama", "qwen3", "mistral", "gemma3")


def toy_gguf(path: Path, family: str = "llama", kind: str = "F32", **changes: Any) -> Path:
    """`kind`: the type of its matrices; `changes` are entries of its metadata, of which None removes one."""
    folder = toy_text(family)
    values = json.loads((folder / "config.json").read_text())
    rope = {"rope_theta": values["rope_theta"], "rope_type": "default"}
    if "rope_local_base_freq" in values:
        local = {"rope_theta": values["rope_local_base_freq"], "rope_type": "default"}
        rope = {"full_attention": rope, "sliding_attention": local}
    config = SimpleNamespace(**{**values, "rope_parameters": rope})
    entries = {**metadata(config), **vocabulary(folder), **changes}
    entries = {key: value for key, value in entries.items() if value is not None}
    return write_gguf(path, entries, tensors(load_file(folder / "model.safetensors"), config, kind))


def vocabulary(folder: Path) -> dict[str, Any]:
    """A folder's tokenizer as the metadata of a GGUF."""
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    config = json.loads((folder / "tokenizer_config.json").read_text())
    added = {token["content"]: token for token in tokenizer["added_tokens"]}
    ids = {**tokenizer["model"]["vocab"], **{content: token["id"] for content, token in added.items()}}
    tokens = sorted(ids, key=ids.__getitem__)
    pieces = tokenizer["model"]["byte_fallback"]
    found: dict[str, Any] = {
        "tokenizer.ggml.model": "llama" if pieces else "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [_type(token, added) for token in tokens],
        "tokenizer.ggml.add_bos_token": config["bos_token"] is not None,
        "tokenizer.chat_template": config["chat_template"],
    }
    if pieces:
        found["tokenizer.ggml.scores"] = [-float(number) for number in range(len(tokens))]
        found["tokenizer.ggml.add_space_prefix"] = "Prepend" in json.dumps(tokenizer["normalizer"])
    else:
        found["tokenizer.ggml.pre"] = "qwen2"
        found["tokenizer.ggml.merges"] = [" ".join(merge) for merge in tokenizer["model"]["merges"]]
    for role, name in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        if config.get(f"{role}_token"):
            found[f"tokenizer.ggml.{name}_token_id"] = ids[config[f"{role}_token"]]
    return found


def _type(token: str, added: dict[str, Any]) -> int:
    if token == "<unk>":
        return UNKNOWN
    if token in added:
        return CONTROL if added[token]["special"] else USER_DEFINED
    return BYTE if token.startswith("<0x") else NORMAL
