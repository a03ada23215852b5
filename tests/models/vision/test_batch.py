"""Models that see in the batch: texts and log probabilities are those of the reference, alone and in company."""

from typing import Any

import numpy as np
import pytest
from mlx_lm.models import cache as mlx_cache
from numpy.typing import NDArray

from models.language.batch.batch import Batch
from models.language.batch.sequence import Sequence
from models.language.cache.prefix_cache import PrefixCache
from models.language.pictures.prompt import with_pictures
from tests import ROOT
from tests.models.vision.toy import Toy
from tests.models.vision.vision_cases import CASES, GENERATED, Prompt, picture, tokens_of

LOGITS = ROOT / "tests" / "models" / "references" / "vision.npz"
ALTERNATIVES = 5


def sequence(toy: Toy, prompt: Prompt) -> Sequence:
    pictures = [toy.vision.look(picture(part)) for part in prompt if isinstance(part, tuple)]
    tokens = tokens_of(prompt, [seen.tokens for seen in pictures], toy.vision.placeholder)
    text, seen = with_pictures(tokens, pictures, toy.vision)
    return Sequence(object(), text, GENERATED, logprobs=ALTERNATIVES, pictures=seen if pictures else None)


def answers(toy: Toy, name: str, prompts: tuple[Prompt, ...]) -> list[tuple[list[int], list[list[float]]]]:
    """Of each prompt, the tokens written, and the log probabilities of the likeliest."""
    vocabulary = CASES[name].config["text_config"]["vocab_size"]
    batch = Batch(
        toy.text,
        vocabulary,
        lambda: mlx_cache.make_prompt_cache(toy.text),
        PrefixCache(2**20),
        16,
        vision=toy.vision,
    )
    assert batch.why_no_pictures == ""
    rows = [sequence(toy, prompt) for prompt in prompts]
    texts: dict[Sequence, tuple[list[int], list[list[float]]]] = {row: ([], []) for row in rows}
    for row in rows:
        batch.add(row)
    for _ in range(100):
        for output in batch.step():
            assert output.error is None, output.error
            if output.token is not None and output.logprob is not None:
                texts[output.sequence][0].append(output.token)
                texts[output.sequence][1].append([logprob for _, logprob in output.logprob.top])
        if not batch.busy:
            break
    return list(texts.values())


def likeliest(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """The log probabilities of the likeliest tokens after the last of a prompt, and after each that was written."""
    rows = logits[-GENERATED:].astype(np.float64)
    logprobs = rows - np.log(np.exp(rows).sum(axis=-1, keepdims=True))
    return -np.sort(-logprobs, axis=-1)[:, :ALTERNATIVES]


@pytest.mark.parametrize("name", CASES)
def test_answers_in_the_batch_equal_the_stored_reference(
    name: str, toys: dict[str, Toy], described: dict[str, Any]
) -> None:
    stored = np.load(LOGITS)
    prompts, expected = CASES[name].prompts, described[name]["written"]
    for together in (prompts, prompts[1:2]):
        for (tokens, logprobs), prompt in zip(answers(toys[name], name, together), together, strict=True):
            number = prompts.index(prompt)
            assert tokens == expected[number]
            np.testing.assert_allclose(logprobs, likeliest(stored[f"{name}/{number}"]), atol=2e-4)
