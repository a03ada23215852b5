"""What the sample model is trained on and judged by: scenes, their words, their pixels."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from models.tokenizers.tokenizer import PromptTokenizer
from samples.training.classify import classify, judge, same
from samples.training.drawing import draw
from samples.training.edits import random_edit
from samples.training.evaluate import edits, prompts, tally
from samples.training.examples import PROMPT
from samples.training.scenes import (
    COLOURS,
    FREE,
    PALETTE,
    Scene,
    Shape,
    background_of,
    held_out,
    random_freedom,
    random_scene,
    settle,
    training_scene,
)
from samples.training.sheet import sheet
from samples.training.talk import conversation
from samples.training.tokens import chat_text, corpus, make_tokenizer, prompt_text, save_tokenizer
from samples.training.words import COLOUR_WORDS, KIND_WORDS, caption

MIDDLE = (0.5,) * FREE
RED_CIRCLE = Scene((Shape("circle", "red"),))


def test_pixels_tell_what_was_drawn() -> None:
    chance = random.Random(1)
    wrong = 0
    for _ in range(250):
        scene, freedom = random_scene(chance), random_freedom(chance)
        picture = settle(scene, freedom)
        pixels = draw(picture)
        wrong += not (same(classify(pixels), picture, 3) and judge(pixels, scene, background_of(scene)).right)
    assert wrong == 0


def test_pixels_tell_what_was_not_drawn() -> None:
    pixels = draw(settle(Scene((Shape("star", "blue"), Shape("ring", "red")), "white", "above"), MIDDLE))
    scene = Scene((Shape("star", "blue"), Shape("ring", "red")), "white", "left")
    assert judge(pixels, scene, "white").place is False
    assert judge(pixels, replace(scene, layout="above"), "white").right
    verdict = judge(pixels, Scene((Shape("star", "red"), Shape("ring", "red")), "white", "above"), "black")
    assert (verdict.colour, verdict.kind, verdict.background) == (False, True, False)
    assert judge(pixels, RED_CIRCLE, "white").count is False


def test_a_picture_without_shapes_has_none_and_noise_is_no_scene() -> None:
    assert classify(draw(settle(Scene((), "green"), MIDDLE))).shapes == ()
    noise = np.random.default_rng(0).integers(0, 256, (128, 128, 3), np.uint8)
    assert not judge(noise, RED_CIRCLE, "white").right


def test_the_same_scene_and_freedom_are_the_same_picture_and_the_freedom_moves_it() -> None:
    first = draw(settle(RED_CIRCLE, MIDDLE))
    assert (draw(settle(RED_CIRCLE, MIDDLE)) == first).all()
    assert tuple(first[64, 64]) == PALETTE["red"]
    moved = settle(RED_CIRCLE, (1.0, *MIDDLE[1:])).shapes[0]
    assert moved.x > settle(RED_CIRCLE, MIDDLE).shapes[0].x


def test_shapes_stay_inside_and_apart_from_their_background() -> None:
    chance = random.Random(2)
    for _ in range(500):
        picture = settle(random_scene(chance), random_freedom(chance))
        for shape in picture.shapes:
            assert shape.colour != picture.background
            assert shape.radius < shape.x < 128 - shape.radius
            assert shape.radius < shape.y < 128 - shape.radius


def test_nothing_that_is_trained_on_is_measured() -> None:
    chance = random.Random(3)
    trained = {training_scene(chance) for _ in range(3000)}
    scenes = {question.scene for question in prompts(100)}
    assert not trained & scenes
    assert all(held_out(scene) for scene in scenes)
    assert len(edits(20)) == 20


def test_words_say_what_the_scene_says_and_no_more() -> None:
    chance = random.Random(4)
    said = {word for words in COLOUR_WORDS.values() for word in words}
    for _ in range(300):
        text = caption(Scene((Shape("ring", None),)), chance).lower()
        assert any(word in text for word in KIND_WORDS["ring"])
        assert not said & set(text.rstrip(".").split())
        text = caption(Scene((Shape("star", "pink"),), "brown", "top left"), chance).lower()
        assert any(word in text for word in COLOUR_WORDS["pink"])
        assert any(word in text for word in COLOUR_WORDS["brown"])
        assert "left" in text


def test_an_edit_changes_what_its_words_say_and_can_be_seen() -> None:
    chance = random.Random(5)
    kinds = set()
    for _ in range(150):
        edit = random_edit(chance, held=False)
        kinds.add(edit.kind)
        assert edit.before != edit.after
        assert not (draw(edit.before) == draw(edit.after)).all()
        assert (edit.before.background != edit.after.background) == (edit.kind == "background")
    assert kinds == {"recolour", "background", "remove", "replace", "resize", "style", "add"}


def test_the_tally_counts_only_what_was_asked_for() -> None:
    cases = prompts(60)
    right = [judge(draw(settle(q.scene, MIDDLE)), q.scene, background_of(q.scene)) for q in cases]
    assert set(tally(cases, right).values()) == {1.0}
    blank = draw(settle(Scene((), "white"), MIDDLE))
    wrong = tally(cases, [judge(blank, q.scene, background_of(q.scene)) for q in cases])
    assert wrong["shape"] == 0
    assert 0 < wrong["background"] < 1


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> PromptTokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(make_tokenizer(corpus(1500)), folder)
    return PromptTokenizer.load(folder)


def test_words_of_scenes_are_whole_tokens_and_every_prompt_fits(tokenizer: PromptTokenizer) -> None:
    chance = random.Random(6)
    for word in (*COLOURS, "circle", "triangle", "background", "above"):
        assert len(tokenizer.encode(f" {word}", pad=False).ids) == 1, word
    for _ in range(200):
        prompt = prompt_text(caption(random_scene(chance), chance))
        assert len(tokenizer.encode(prompt, pad=False).ids) <= PROMPT


def test_prompts_are_trained_on_as_the_pipeline_puts_them(tokenizer: PromptTokenizer) -> None:
    assert tokenizer.chat("a star", enable_thinking=False) == prompt_text("a star")
    parts = chat_text("Be brief.", [("a star", "A large star."), ("make it red", "A large red star.")])
    prompt = tokenizer.template.render(
        [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "a star"},
            {"role": "assistant", "content": "A large star."},
            {"role": "user", "content": "make it red"},
        ]
    )
    assert "".join(text for text, _ in parts[:-1]) == prompt


def test_conversations_are_of_all_kinds() -> None:
    chance = random.Random(7)
    answers = " ".join(turns[-1][1] for _, turns in (conversation(chance) for _ in range(500)))
    for part in ("background.", "I only know shapes", "The background is", "1. ", "Hello!", "Goodbye!"):
        assert part in answers


def test_a_sheet_shows_each_picture_once(tmp_path: Path) -> None:
    red = draw(settle(Scene((), "red"), MIDDLE))
    made = np.asarray(sheet([red] * 5, 3))
    assert (made == PALETTE["red"]).all(-1).sum() == 5 * 128 * 128
