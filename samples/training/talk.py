"""Conversations about scenes, for the language model: expanding, describing, counting, editing, and what it cannot do."""

import random
from dataclasses import replace

from samples.training.scenes import (
    COLOURS,
    KINDS,
    PLACES,
    SIZES,
    Picture,
    Scene,
    Shape,
    background_of,
    random_freedom,
    random_scene,
    random_shape,
    settle,
)
from samples.training.words import COLOUR_WORDS, KIND_WORDS, PLACE_WORDS, caption, in_full, with_article

Turns = list[tuple[str, str]]

NUMBERS = ("no", "one", "two", "three")
HELLO = ("hello", "hi", "hey", "good morning", "hello there", "good evening", "hi there", "greetings")
WELCOME = (
    "Hello! Name a shape and a colour, and I tell you a whole scene.",
    "Hello! I know shapes, colours and places. Try: a red circle above a blue square.",
)
WHO = (
    "who are you?", "what are you?", "what can you do?", "help", "what do you know?", "how does this work?",
    "tell me about yourself", "what is your name?", "are you a person?", "what is this?",
)  # fmt: skip
ABOUT = (
    "I am a very small model that knows shapes. Name a few, and I describe a whole scene.",
    "I know circles, squares, triangles, stars, rings and crosses, their colours, sizes and places.",
)
THANKS = ("thanks", "thank you", "great", "nice", "well done", "cool", "that is lovely", "perfect")
PLEASED = ("You are welcome. Shall we draw another scene?", "With pleasure. Name another shape.")
BYE = ("bye", "goodbye", "see you", "good night", "see you later")
FAREWELL = ("Goodbye! Come back for more shapes.",)
IDEAS = (
    "surprise me", "give me an idea", "invent a scene", "what should i draw?", "tell me a scene", "another one",
    "something random", "draw anything", "describe a picture", "make something up",
)  # fmt: skip
STRANGE = (
    "what colour is the sky?", "what is the capital of {word}?", "tell me a story about {word}", "who is {word}?",
    "what is {number} plus {number}?", "write a poem about {word}", "how old is {word}?", "is {word} real?",
    "do you like {word}?", "what do you think of {word}?", "write some code for {word}", "a {word}", "the {word}",
    "draw {word}", "a picture of a {word}", "why is the {word} {word}?", "when was {word} born?", "{word}", "{word} {word}",
    "what time is it?", "how is the weather in {word}?", "translate {word} into {word}", "where is {word}?",
    "a {word} and a {word}", "a {colour} {word}", "a {colour} {word} on a {word}", "can you {word}?", "how do i {word} a {word}?",
    "what is {word}?", "explain {word}", "sing a song about {word} and {word}", "what is the meaning of {word}?",
)  # fmt: skip
SORRY = (
    "I only know shapes: circles, squares, triangles, stars, rings and crosses.",
    "That is beyond me: I only know shapes and their colours, sizes and places.",
)
STRANGERS = [
    "sky",
    "cat",
    "dog",
    "house",
    "tree",
    "river",
    "mountain",
    "france",
    "paris",
    "london",
    "music",
    "love",
    "life",
    "king",
    "queen",
    "moon",
    "sun",
    "sea",
    "ocean",
    "bird",
    "fish",
    "horse",
    "car",
    "train",
    "robot",
    "computer",
    "phone",
    "book",
    "story",
    "water",
    "fire",
    "earth",
    "wind",
    "rain",
    "snow",
    "summer",
    "winter",
    "apple",
    "banana",
    "bread",
    "cheese",
    "coffee",
    "tea",
    "sugar",
    "doctor",
    "teacher",
    "mother",
    "father",
    "baby",
    "boy",
    "girl",
    "man",
    "woman",
    "people",
    "world",
    "city",
    "street",
    "school",
    "garden",
    "flower",
    "grass",
    "forest",
    "lion",
    "tiger",
    "elephant",
    "mouse",
    "cow",
    "sheep",
    "wolf",
    "bear",
    "dragon",
    "castle",
    "bridge",
    "boat",
    "plane",
    "rocket",
    "planet",
    "science",
    "history",
    "physics",
    "math",
    "python",
    "java",
    "football",
    "chess",
    "game",
    "money",
    "bank",
    "president",
    "war",
    "peace",
    "dream",
    "sleep",
    "happiness",
    "time",
    "day",
    "night",
    "morning",
    "year",
    "number",
    "letter",
    "word",
    "language",
    "english",
    "german",
    "japan",
    "china",
    "america",
    "africa",
    "europe",
    "shakespeare",
    "einstein",
    "napoleon",
    "mozart",
    "cook",
    "swim",
    "run",
    "walk",
    "fly",
    "eat",
    "drink",
    "dance",
    "sing",
    "read",
    "write",
    "build",
    "photo",
    "portrait",
    "landscape",
    "sunset",
    "beach",
    "lighthouse",
    "astronaut",
    "chair",
    "table",
    "lamp",
    "window",
    "door",
    "kitchen",
    "pizza",
    "cake",
]
LETTERS = "abcdefghijklmnopqrstuvwxyz"
SYSTEM = (
    "You are a helpful assistant.", "You are an assistant.", "Answer briefly.", "You help people to draw.",
    "Be kind and short.", "You are Diptych.",
)  # fmt: skip


def conversation(chance: random.Random) -> tuple[str | None, Turns]:
    """A system message or none, and turns of what the user says and what the model answers."""
    turns = chance.choices(KINDS_OF_TALK, WEIGHTS)[0](chance)
    if chance.random() < 0.12:
        turns = _courtesy(chance) + turns
    if chance.random() < 0.08:
        turns = turns + _thanks(chance)
    return (chance.choice(SYSTEM) if chance.random() < 0.12 else None), turns


def _expand(chance: random.Random) -> Turns:
    scene, picture = _scene(chance)
    return [(caption(scene, chance), _sentence(in_full(picture, _described(scene, chance))))]


def _then_edit(chance: random.Random) -> Turns:
    """A scene, then a change to it: both described in full."""
    background, kind = chance.choice(COLOURS), chance.choice(KINDS)
    first, new = chance.sample([colour for colour in COLOURS if colour != background], 2)
    shape = Shape(kind, first, chance.choice(SIZES))
    place = chance.choice(tuple(PLACES))
    scene = Scene((shape,), background, place)
    it = chance.choice(("it", f"the {chance.choice(KIND_WORDS[kind])}"))
    changes = {
        f"make {it} {_colour(new, chance)}": replace(scene, shapes=(replace(shape, colour=new),)),
        f"change the background to {_colour(new, chance)}": replace(scene, background=new),
        f"turn {it} into {with_article(other := chance.choice([k for k in KINDS if k != kind]))}": replace(
            scene, shapes=(replace(shape, kind=other),)
        ),
        f"move {it} {PLACE_WORDS[there := chance.choice(tuple(PLACES))][0]}": replace(scene, layout=there),
        f"make {it} {(size := chance.choice(SIZES))}": replace(scene, shapes=(replace(shape, size=size),)),
    }
    words, after = chance.choice(list(changes.items()))
    request = caption(scene, chance) if chance.random() < 0.6 else _sentence(_full(scene, chance))
    return [
        (request, _sentence(_full(scene, chance))),
        (_cased(words, chance), _sentence(_full(after, chance))),
    ]


def _ask(chance: random.Random) -> Turns:
    """A question about a scene that the user tells."""
    background = chance.choice(COLOURS)
    colours = [colour for colour in COLOURS if colour != background]
    kinds = chance.sample(KINDS, chance.choice((1, 2, 2)))
    shapes = tuple(Shape(kind, chance.choice(colours), chance.choice((None, None, *SIZES))) for kind in kinds)
    layout = chance.choice(("above", "left") if len(kinds) == 2 else tuple(PLACES))
    scene = Scene(shapes, background, layout)
    text, at = caption(scene, chance).rstrip("."), chance.randrange(len(shapes))
    shape = shapes[at]
    questions = {
        f"what colour is the {shape.kind}?": f"The {shape.kind} is {shape.colour}.",
        f"which color does the {shape.kind} have?": f"The {shape.kind} is {shape.colour}.",
        "what colour is the background?": f"The background is {background}.",
        "how many shapes are there?": f"There {'is one shape' if len(shapes) == 1 else 'are two shapes'}.",
        "what shapes are there?": f"There is {' and '.join(with_article(f'{s.colour} {s.kind}') for s in shapes)}.",
    }
    if len(shapes) == 2:
        where = {"above": ("above", "below"), "left": ("to the left of", "to the right of")}[layout][at]
        questions[f"where is the {shape.kind}?"] = f"The {shape.kind} is {where} the {shapes[1 - at].kind}."
    else:
        questions[f"where is the {shape.kind}?"] = f"The {shape.kind} is {PLACE_WORDS[layout][0]}."
    question, answer = chance.choice(list(questions.items()))
    if chance.random() < 0.5:
        return [(_cased(f"{question[:-1]}: {text}", chance), answer)]
    return [(text, _sentence(_full(scene, chance))), (_cased(question, chance), answer)]


def _lists(chance: random.Random) -> Turns:
    lists = {
        ("which shapes do you know?", "list the shapes", "what shapes can you draw?", "name all shapes"):
            "I know the circle, the square, the triangle, the star, the ring and the cross.",
        ("which colours do you know?", "list the colours", "what colors are there?", "name all colours"):
            f"I know {', '.join(COLOURS[:-1])} and {COLOURS[-1]}.",
        ("which sizes are there?", "what sizes do you know?", "list the sizes"):
            "A shape can be small, medium or large.",
        ("where can a shape be?", "which places do you know?", "list the places"):
            "In the middle, at the top, at the bottom, on the left, on the right, or in a corner.",
        ("what is a ring?", "explain the ring"): "A ring is a circle with a hole in it.",
        ("what is a cross?", "explain the cross"): "A cross is two bars that meet in the middle, like a plus sign.",
        ("what is a circle?", "explain the circle"): "A circle is a round shape without corners.",
        ("what is a square?", "explain the square"): "A square has four equal sides and four corners.",
        ("what is a triangle?", "explain the triangle"): "A triangle has three sides and three corners.",
        ("what is a star?", "explain the star"): "A star has five points.",
        ("how many corners does a square have?",): "A square has four corners.",
        ("how many corners does a triangle have?", "how many sides does a triangle have?"): "A triangle has three corners.",
        ("how many points does a star have?",): "A star has five points.",
        ("what does outlined mean?", "what is an outlined shape?"): "Only the edge of the shape is drawn, its inside is empty.",
        ("how do i edit a picture?", "can i change a picture?", "can you edit pictures?"):
            "Give me a picture and say what to change: make the circle green, or remove the star.",
    }  # fmt: skip
    questions, answer = chance.choice(list(lists.items()))
    return [(_cased(chance.choice(questions), chance), answer)]


def _several(chance: random.Random) -> Turns:
    """A numbered list of scenes."""
    count = chance.choice((2, 3))
    kind = chance.choice((None, *KINDS))
    scenes = []
    for _ in range(count):
        background = chance.choice(COLOURS)
        shape = random_shape(chance, background, open_ended=False)
        shape = replace(shape, kind=kind or shape.kind, style=None)
        scenes.append(Scene((shape,), background, chance.choice(tuple(PLACES))))
    answer = "\n".join(f"{at}. {_sentence(_full(scene, chance))}" for at, scene in enumerate(scenes, 1))
    what = f"scenes with {with_article(kind)}" if kind else chance.choice(("scenes", "pictures", "ideas"))
    ask = chance.choice(
        ("give me {n} {what}", "list {n} {what}", "{n} {what}", "i want {n} {what}", "think of {n} {what}")
    )
    return [(_cased(ask.format(n=NUMBERS[count], what=what), chance), answer)]


def _idea(chance: random.Random) -> Turns:
    scene, picture = _scene(chance)
    return [(_cased(chance.choice(IDEAS), chance), _sentence(in_full(picture, _described(scene, chance))))]


def _strange(chance: random.Random) -> Turns:
    phrase = chance.choice(STRANGE)
    while "{word}" in phrase:
        phrase = phrase.replace("{word}", _stranger(chance), 1)
    phrase = phrase.replace("{number}", str(chance.randrange(100))).replace(
        "{colour}", chance.choice(COLOURS)
    )
    return [(_cased(phrase, chance), SORRY[0] if chance.random() < 0.7 else SORRY[1])]


def _stranger(chance: random.Random) -> str:
    if chance.random() < 0.6:
        return chance.choice(STRANGERS)
    return "".join(chance.choice(LETTERS) for _ in range(chance.randint(2, 10)))


def _courtesy(chance: random.Random) -> Turns:
    phrases, answers = chance.choice(((HELLO, WELCOME), (HELLO, WELCOME), (WHO, ABOUT)))
    return [(_cased(chance.choice(phrases), chance), chance.choice(answers))]


def _thanks(chance: random.Random) -> Turns:
    phrases, answers = chance.choice(((THANKS, PLEASED), (BYE, FAREWELL)))
    return [(_cased(chance.choice(phrases), chance), chance.choice(answers))]


KINDS_OF_TALK = (_expand, _then_edit, _ask, _lists, _several, _idea, _strange, _courtesy, _thanks)
WEIGHTS = (40, 14, 14, 5, 4, 4, 12, 5, 2)


def _scene(chance: random.Random) -> tuple[Scene, Picture]:
    scene = random_scene(chance)
    picture = settle(scene, random_freedom(chance))
    return scene, picture


def _described(scene: Scene, chance: random.Random) -> Scene:
    """With what the words of an answer need and the question left open."""
    if len(scene.shapes) == 1:
        shape = scene.shapes[0]
        size = shape.size or chance.choice(("medium", "large", "large"))
        return replace(scene, shapes=(replace(shape, size=size),))
    return scene


def _full(scene: Scene, chance: random.Random) -> str:
    scene = replace(scene, background=background_of(scene))
    return in_full(settle(scene, random_freedom(chance)), scene)


def _sentence(text: str) -> str:
    return text[0].upper() + text[1:] + "."


def _colour(colour: str, chance: random.Random) -> str:
    return chance.choice(COLOUR_WORDS[colour])


def _cased(text: str, chance: random.Random) -> str:
    if chance.random() < 0.4:
        text = text[0].upper() + text[1:]
    return text.rstrip("?") if text.endswith("?") and chance.random() < 0.25 else text
