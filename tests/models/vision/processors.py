"""transformers' processors of prompts with pictures, around a toy tokenizer."""

import importlib
import sys
from collections.abc import Mapping
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from tests.models.vision.vision_cases import Case

WORDS = ("[UNK]", "a", "b", "c")


def tokenizer(specials: Mapping[str, str]) -> Any:
    """One token a word, and special tokens: by their attribute, or by themselves."""
    inner = Tokenizer(models.WordLevel({word: id for id, word in enumerate(WORDS)}, unk_token="[UNK]"))
    inner.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    inner.add_special_tokens([AddedToken(token, special=True) for token in specials.values()])
    named = {name: token for name, token in specials.items() if name.endswith("_token")}
    return PreTrainedTokenizerFast(tokenizer_object=inner, unk_token="[UNK]", extra_special_tokens=named)


QWEN = {word: word for word in ("<|image_pad|>", "<|video_pad|>", "<|vision_start|>", "<|vision_end|>")}
GEMMA = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}

IDEFICS = {
    "fake_image_token": "<fake_token_around_image>",
    "image_token": "<image>",
    "global_image_token": "<global-img>",
    "end_of_utterance_token": "<end_of_utterance>",
    **{word: word for word in (f"<row_{row}_col_{column}>" for row in range(1, 7) for column in range(1, 7))},
}


def processor(case: Case) -> Any:
    """The processor of a case, without what it has for videos, which needs torchvision."""
    tile = case.tile if "max_image_size" in case.processor else 0
    module, name, specials, options = {
        "Qwen2VLImageProcessorPil": ("qwen2_5_vl", "Qwen2_5_VLProcessor", QWEN, {"video_processor": None}),
        "Gemma3ImageProcessorPil": (
            "gemma3",
            "Gemma3Processor",
            GEMMA,
            {"image_seq_length": case.config.get("mm_tokens_per_image")},
        ),
        "PixtralImageProcessorPil": (
            "pixtral",
            "PixtralProcessor",
            {token: token for token in ("[IMG]", "[IMG_BREAK]", "[IMG_END]")},
            {
                "patch_size": case.config["vision_config"].get("patch_size"),
                "spatial_merge_size": case.config.get("spatial_merge_size"),
            },
        ),
        "Idefics3ImageProcessorPil": ("idefics3", "Idefics3Processor", IDEFICS, {"image_seq_len": tile}),
        "SmolVLMImageProcessorPil": (
            "smolvlm",
            "SmolVLMProcessor",
            IDEFICS,
            {"image_seq_len": tile, "video_processor": None},
        ),
    }[case.image_processor]
    if module == "pixtral":  # whose processor imports a function from the file for torchvision
        package = "transformers.models.pixtral.image_processing"
        sys.modules[f"{package}_pixtral"] = importlib.import_module(f"{package}_pil_pixtral")
    processing = importlib.import_module(f"transformers.models.{module}.processing_{module}")
    if hasattr(processing, "num2words"):
        processing.num2words = str  # a package for the lengths of videos
    base = getattr(processing, name)

    class Processor(base):  # type: ignore[misc, valid-type]
        def check_argument_for_proper_class(self, argument_name: str, argument: Any) -> None:
            return None

    return Processor(image_processor(case), tokenizer(specials), **options)


def image_processor(case: Case) -> Any:
    package = case.package
    module = importlib.import_module(f"transformers.models.{package}.image_processing_pil_{package}")
    return getattr(module, case.image_processor)(**case.processor)
