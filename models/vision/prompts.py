"""Prompts with pictures: what stands for each becomes all that the model reads for it."""

from collections.abc import Sequence


def expanded(prompt: str, marker: str, texts: Sequence[str]) -> str:
    """The prompt with each of these texts in place of one marker."""
    parts = prompt.split(marker)
    if len(parts) != len(texts) + 1:
        raise ValueError(
            f"the prompt has {len(parts) - 1} places for pictures ({marker}), but there are {len(texts)} pictures"
        )
    return parts[0] + "".join(text + part for text, part in zip(texts, parts[1:], strict=True))
