"""A random Qwen2.5-VL in the Hugging Face layout, with a tokenizer and the chat template of its kind."""

import json
from pathlib import Path

import mlx.core as mx

from tests import ROOT
from tests.models.vision.vision_cases import qwen_pixels, weights
from tests.toys.tokenizers import STYLES, Style, make_tokenizer

SHAPES = ROOT / "tests" / "models" / "references" / "vision.json"
CASE, WIDTH = "qwen2.5-vl", 83  # its vocabulary there
BEGIN, END, IMAGE = "<|vision_start|>", "<|vision_end|>", "<|image_pad|>"

# Parts of messages are rendered as by Qwen2.5-VL's own template.
TEMPLATE = """\
{%- for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' }}
{%- if message['content'] is string %}{{ message['content'] }}
{%- else %}{% for part in message['content'] %}
{%- if part['type'] == 'image' %}{{ '<|vision_start|><|image_pad|><|vision_end|>' }}
{%- elif 'text' in part %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}
{{- '<|im_end|>\\n' }}{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""

STYLE = Style(
    TEMPLATE,
    specials=(*STYLES["chatml"].specials, BEGIN, END, IMAGE, "<|video_pad|>"),
    ends=STYLES["chatml"].ends,
)


def make_vision_model(folder: Path, vocab_size: int = 640, template: str = TEMPLATE, seed: int = 0) -> Path:
    """Its text never ends, so that a length can be relied on."""
    folder.mkdir(parents=True, exist_ok=True)
    described = json.loads(SHAPES.read_text())[CASE]
    tokenizer = make_tokenizer(STYLE, vocab_size)
    ids = {token: tokenizer.token_to_id(token) for token in STYLE.specials}
    config = described["config"] | {
        "image_token_id": ids[IMAGE],
        "video_token_id": ids["<|video_pad|>"],
        "vision_start_token_id": ids[BEGIN],
        "vision_end_token_id": ids[END],
        "eos_token_id": ids[STYLE.ends[0]],
    }
    config["text_config"] = config["text_config"] | {
        "vocab_size": vocab_size,
        "max_position_embeddings": 4096,
        "eos_token_id": ids[STYLE.ends[0]],
    }
    shapes = {
        name: [vocab_size if size == WIDTH else size for size in shape]
        for name, shape in described["shapes"].items()
    }
    tensors = weights(shapes, seed)
    tensors["lm_head.weight"][list(ids.values())] = 0  # below the likeliest of the others
    mx.save_safetensors(
        str(folder / "model.safetensors"), {name: mx.array(value) for name, value in tensors.items()}
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    written = {
        "config.json": config,
        "preprocessor_config.json": qwen_pixels() | {"image_processor_type": "Qwen2VLImageProcessor"},
        "generation_config.json": {"eos_token_id": [ids[token] for token in STYLE.ends]},
        "tokenizer_config.json": {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": STYLE.ends[0],
            "pad_token": STYLE.ends[1],
            "clean_up_tokenization_spaces": False,
            "chat_template": template,
        },
    }
    for name, value in written.items():
        (folder / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
    return folder
