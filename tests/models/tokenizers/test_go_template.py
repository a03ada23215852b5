"""Ollama's templates: what Ollama makes of a chat, and what their translations make of it."""

import pytest

from models.tokenizers.chat_template import ChatTemplate
from models.tokenizers.go_template import jinja_template

TOKENS = {"bos_token": "<bos>", "eos_token": "</s>"}
CHAT = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "Who are you?"},
]
# As models of Ollama's library have them, and what a chat becomes.
TEMPLATES = {
    "chatml": (
        "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n",
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n"
        "<|im_start|>user\nWho are you?<|im_end|>\n<|im_start|>assistant\n",
    ),
    "llama 3": (
        "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n{{ .System }}<|eot_id|>{{ end }}{{ if .Prompt }}"
        "<|start_header_id|>user<|end_header_id|>\n\n{{ .Prompt }}<|eot_id|>{{ end }}<|start_header_id|>assistant"
        "<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
        "<bos><|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "Hi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nHello.<|eot_id|><|start_header_id|>user"
        "<|end_header_id|>\n\nWho are you?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    "gemma": (
        "<start_of_turn>user\n{{ if .System }}{{ .System }} {{ end }}{{ .Prompt }}<end_of_turn>\n<start_of_turn>model\n"
        "{{ .Response }}<end_of_turn>\n",
        "<bos><start_of_turn>user\nBe brief.\n\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n<start_of_turn>user\n"
        "Who are you?<end_of_turn>\n<start_of_turn>model\n",
    ),
    "phi 3": (
        "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}{{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n{{ end }}"
        "<|assistant|>\n{{ .Response }}<|end|>",
        "<|system|>\nBe brief.<|end|>\n<|user|>\nHi<|end|>\n<|assistant|>\nHello.<|end|>\n<|user|>\nWho are you?<|end|>\n"
        "<|assistant|>\n",
    ),
    "zephyr": (
        "{{ if .System }}<|system|>\n{{ .System }}</s>\n{{ end }}<|user|>\n{{ .Prompt }}</s>\n<|assistant|>\n{{ .Response }}</s>",
        "<|system|>\nBe brief.</s>\n<|user|>\nHi</s>\n<|assistant|>\nHello.</s>\n<|user|>\nWho are you?</s>\n<|assistant|>\n",
    ),
    "mistral": (
        "[INST] {{ if .System }}{{ .System }} {{ end }}{{ .Prompt }} [/INST]",
        "<bos>[INST] Be brief.\n\nHi [/INST] Hello.</s>[INST] Who are you? [/INST]",
    ),
    "llama 2": (
        "[INST] <<SYS>>{{ .System }}<</SYS>>\n\n{{ .Prompt }} [/INST]\n",
        "<bos>[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST] Hello.</s>[INST] Who are you? [/INST]",
    ),
}


@pytest.mark.parametrize("name", TEMPLATES)
def test_a_template_of_a_known_form_is_translated(name: str) -> None:
    template, expected = TEMPLATES[name]
    jinja = jinja_template(template)
    assert jinja is not None
    assert ChatTemplate(jinja, TOKENS).render(CHAT) == expected


@pytest.mark.parametrize(
    "template",
    [
        "", "{{ .Prompt }}", "### User: {{ .Prompt }}\n### Assistant:", "<|im_start|>{{ .Prompt }}",
        "<|im_start|>{{ .Prompt }}<|im_end|><|channel|>", "<|user|>{{ .Prompt }}<|assistant|>",
    ],
)  # fmt: skip
def test_a_template_of_no_known_form_is_left(template: str) -> None:
    assert jinja_template(template) is None
