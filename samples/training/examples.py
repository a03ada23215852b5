"""Training examples by the hundred thousand, made on all cores. The same seed makes the same examples on any machine."""

import multiprocessing
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer

from samples.training.drawing import draw
from samples.training.edits import random_edit
from samples.training.scenes import FREE, SIDE, random_freedom, settle, training_scene
from samples.training.talk import conversation
from samples.training.tokens import chat_text, prompt_text
from samples.training.words import caption

CHUNK = 1000
PROMPT = 64  # tokens that the longest prompt of these scenes fits in, the chat template included
TALK = 192
PHRASINGS = 2  # captions of each picture
T = TypeVar("T")
OWN, USER = 1.0, 0.2  # weights of the model's own words and of the users'


@dataclass(frozen=True)
class Drawings:
    """Pictures, prompts of each, and the free numbers that decided what the prompts leave open."""

    pixels: NDArray[np.uint8]
    tokens: NDArray[np.int16]  # [picture, phrasing, PROMPT]
    freedom: NDArray[np.float32]


@dataclass(frozen=True)
class Changes:
    before: NDArray[np.uint8]
    after: NDArray[np.uint8]
    tokens: NDArray[np.int16]  # [picture, 1, PROMPT]
    freedom: NDArray[np.float32]


@dataclass(frozen=True)
class Talks:
    tokens: NDArray[np.int16]
    weights: NDArray[np.float16]  # what to learn from each token


def drawings(count: int, tokenizer: Path, seed: int = 1) -> Iterator[Drawings]:
    return _in_chunks(_drawings, count, tokenizer, seed)


def changes(count: int, tokenizer: Path, seed: int = 2) -> Iterator[Changes]:
    return _in_chunks(_changes, count, tokenizer, seed)


def talks(count: int, tokenizer: Path, seed: int = 3) -> Iterator[Talks]:
    return _in_chunks(_talks, count, tokenizer, seed)


def _in_chunks(make: Callable[..., T], count: int, tokenizer: Path, seed: int) -> Iterator[T]:
    starts = range(0, count, CHUNK)
    jobs = [(seed * 1_000_003 + start, min(CHUNK, count - start)) for start in starts]
    if len(jobs) == 1:
        yield _call(make, str(tokenizer), jobs[0])
        return
    with multiprocessing.get_context("spawn").Pool() as pool:
        yield from pool.imap(partial(_call, make, str(tokenizer)), jobs)


def _call(make: Callable[..., T], tokenizer: str, job: tuple[int, int]) -> T:
    seed, count = job
    return make(random.Random(seed), count, Tokenizer.from_file(tokenizer))


def _drawings(chance: random.Random, count: int, tokenizer: Tokenizer) -> Drawings:
    made = Drawings(_canvas(count), np.zeros((count, PHRASINGS, PROMPT), np.int16), _free(count))
    for at in range(count):
        scene, freedom = training_scene(chance), random_freedom(chance)
        made.pixels[at] = draw(settle(scene, freedom))
        made.freedom[at] = freedom
        for way in range(PHRASINGS):
            made.tokens[at, way] = _prompt(caption(scene, chance), tokenizer)
    return made


def _changes(chance: random.Random, count: int, tokenizer: Tokenizer) -> Changes:
    tokens = np.zeros((count, 1, PROMPT), np.int16)
    made = Changes(_canvas(count), _canvas(count), tokens, _free(count))
    for at in range(count):
        edit = random_edit(chance, held=False)
        made.before[at], made.after[at] = draw(edit.before), draw(edit.after)
        made.tokens[at, 0] = _prompt(edit.words, tokenizer)
        # Nothing is left open in an edit, so its numbers decide nothing.
        made.freedom[at] = random_freedom(chance)
    return made


def _talks(chance: random.Random, count: int, tokenizer: Tokenizer) -> Talks:
    made = Talks(np.zeros((count, TALK), np.int16), np.zeros((count, TALK), np.float16))
    made.tokens[:] = tokenizer.token_to_id("<|endoftext|>")
    at = 0
    while at < count:
        ids, weights = [], []
        for text, own in chat_text(*conversation(chance)):
            part = tokenizer.encode(text, add_special_tokens=False).ids
            ids += part
            weights += [OWN if own else USER] * len(part)
        if len(ids) <= TALK:
            made.tokens[at, : len(ids)], made.weights[at, : len(ids)] = ids, weights
            at += 1
    return made


def _prompt(words: str, tokenizer: Tokenizer) -> NDArray[np.int16]:
    pad = tokenizer.token_to_id("<|endoftext|>")
    ids = tokenizer.encode(prompt_text(words), add_special_tokens=False).ids[:PROMPT]
    return np.array(ids + [pad] * (PROMPT - len(ids)), np.int16)


def _canvas(count: int) -> NDArray[np.uint8]:
    return np.zeros((count, SIDE, SIDE, 3), np.uint8)


def _free(count: int) -> NDArray[np.float32]:
    return np.zeros((count, FREE), np.float32)
