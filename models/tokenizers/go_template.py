"""Ollama's chat templates, which are Go's, as Jinja: those whose form is known by the marks around their turns.

A template in Go says the same as one in Jinja, in another language. Those of Ollama's library are of a few forms, told apart
by the special tokens in them; one with any other token is not translated. Tools in such a template are left out.
"""

import re
from dataclasses import dataclass

_MARK = re.compile(r"<\|[^|<>{}\s]{1,40}\|>|</?s>|\[/?INST\]|<</?SYS>>|<(?:start|end)_of_turn>")


@dataclass(frozen=True)
class Form:
    """`marks`: all of them are in a template of this form, and of others only those in `also`."""

    marks: frozenset[str]
    jinja: str
    also: frozenset[str] = frozenset()


def _turns(before: str, after: str, prompt: str, role: str = "message.role") -> str:
    """The same marks around every turn. `before` and `prompt` are expressions."""
    return (
        f"{{%- for message in messages %}}{{{{- {before.replace('ROLE', role)} + message.content + '{after}' }}}}{{%- endfor %}}"
        f"{{%- if add_generation_prompt %}}{{{{- {prompt} }}}}{{%- endif %}}"
    )


_CHATML = _turns("'<|im_start|>' + ROLE + '\\n'", "<|im_end|>\\n", "'<|im_start|>assistant\\n'")
_LLAMA3 = "{{- bos_token }}" + _turns(
    "'<|start_header_id|>' + ROLE + '<|end_header_id|>\\n\\n'",
    "<|eot_id|>",
    "'<|start_header_id|>assistant<|end_header_id|>\\n\\n'",
)
_PHI3 = _turns("'<|' + ROLE + '|>\\n'", "<|end|>\\n", "'<|assistant|>\\n'")
_ZEPHYR = _turns("'<|' + ROLE + '|>\\n'", "</s>\\n", "'<|assistant|>\\n'")
# The system message goes before the user's, in its turn.
_GEMMA = """{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
{%- if message.role == 'system' %}{% set ns.system = message.content + '\\n\\n' %}
{%- else %}
{{- '<start_of_turn>' + ('model' if message.role == 'assistant' else 'user') + '\\n' }}
{%- if message.role == 'user' %}{{- ns.system }}{% set ns.system = '' %}{% endif %}
{{- message.content + '<end_of_turn>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<start_of_turn>model\\n' }}{% endif %}"""
_INST = """{{- bos_token }}
{%- set ns = namespace(system='') %}
{%- for message in messages %}
{%- if message.role == 'system' %}{% set ns.system = SYSTEM %}
{%- elif message.role == 'user' %}{{- '[INST] ' + ns.system + message.content + ' [/INST]' }}{% set ns.system = '' %}
{%- else %}{{- ' ' + message.content + eos_token }}
{%- endif %}
{%- endfor %}"""
_MISTRAL = _INST.replace("SYSTEM", "message.content + '\\n\\n'")
_LLAMA2 = _INST.replace("SYSTEM", "'<<SYS>>\\n' + message.content + '\\n<</SYS>>\\n\\n'")

FORMS = (
    Form(frozenset(("<|im_start|>", "<|im_end|>")), _CHATML),
    Form(
        frozenset(("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>")),
        _LLAMA3,
        frozenset(("<|begin_of_text|>", "<|eom_id|>", "<|python_tag|>")),
    ),
    Form(frozenset(("<start_of_turn>", "<end_of_turn>")), _GEMMA),
    Form(frozenset(("<|user|>", "<|assistant|>", "<|end|>")), _PHI3, frozenset(("<|system|>",))),
    Form(frozenset(("<|user|>", "<|assistant|>", "</s>")), _ZEPHYR, frozenset(("<|system|>",))),
    Form(frozenset(("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>")), _LLAMA2, frozenset(("<s>", "</s>"))),
    Form(frozenset(("[INST]", "[/INST]")), _MISTRAL, frozenset(("<s>", "</s>"))),
)


def jinja_template(template: str) -> str | None:
    """None for a template of no known form."""
    marks = set(_MARK.findall(template))
    return next((form.jinja for form in FORMS if form.marks <= marks <= form.marks | form.also), None)
