"""How people ask for scenes, in many phrasings, and how one scene is described in full."""

import random

from samples.training.scenes import Picture, Placed, Scene, Shape

KIND_WORDS = {
    "circle": ("circle", "circle", "circle", "disc", "disk", "dot", "round shape"),
    "square": ("square", "square", "square", "box", "block"),
    "triangle": ("triangle", "triangle", "triangle", "three-sided shape"),
    "star": ("star", "star", "star", "five-pointed star"),
    "ring": ("ring", "ring", "ring", "hoop", "donut"),
    "cross": ("cross", "cross", "cross", "plus sign", "plus"),
}
COLOUR_WORDS = {
    "red": ("red", "red", "red", "red", "scarlet", "crimson"),
    "orange": ("orange", "orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "yellow", "yellow", "golden"),
    "green": ("green", "green", "green", "green", "emerald"),
    "cyan": ("cyan", "cyan", "turquoise", "aqua"),
    "blue": ("blue", "blue", "blue", "blue", "cobalt"),
    "purple": ("purple", "purple", "purple", "violet"),
    "pink": ("pink", "pink", "pink", "rose"),
    "brown": ("brown", "brown", "chocolate brown"),
    "black": ("black",),
    "grey": ("grey", "gray"),
    "white": ("white",),
}
SIZE_WORDS = {
    "small": ("small", "small", "little", "tiny"),
    "medium": ("medium", "medium-sized", "middle-sized"),
    "large": ("large", "large", "big", "huge"),
}
STYLE_WORDS = {"solid": ("solid", "filled"), "outlined": ("outlined", "outlined", "hollow", "empty")}
PLACE_WORDS = {
    "middle": ("in the middle", "in the centre", "in the center", "right in the middle"),
    "top": ("at the top", "near the top", "in the upper part", "up at the top"),
    "bottom": ("at the bottom", "near the bottom", "in the lower part", "down at the bottom"),
    "left": ("on the left", "at the left", "on the left side", "on the left hand side"),
    "right": ("on the right", "at the right", "on the right side", "on the right hand side"),
    "top left": ("in the top left corner", "at the top left", "in the upper left corner", "in the upper left"),
    "top right": ("in the top right corner", "at the top right", "in the upper right corner", "in the upper right"),
    "bottom left": ("in the bottom left corner", "at the bottom left", "in the lower left corner"),
    "bottom right": ("in the bottom right corner", "at the bottom right", "in the lower right corner"),
}  # fmt: skip
# The first and the second as a scene names them; either may be named first.
ABOVE = (
    "{a} above {b}", "{a} above {b}", "{a} over {b}", "{b} below {a}", "{b} under {a}", "{b} beneath {a}",
    "{a} at the top and {b} at the bottom", "{b} at the bottom and {a} at the top", "{a} higher than {b}",
    "{a} with {b} below it", "{b} with {a} above it", "{a} on top and {b} underneath",
)  # fmt: skip
LEFT = (
    "{a} left of {b}", "{a} to the left of {b}", "{b} right of {a}", "{b} to the right of {a}",
    "{a} on the left and {b} on the right", "{b} on the right and {a} on the left",
    "{a} on the left of {b}", "{b} on the right of {a}", "{a} with {b} to its right", "{b} with {a} to its left",
)  # fmt: skip
TWO = ("{a} and {b}", "{a} and {b}", "{a} with {b}", "{a} together with {b}", "both {a} and {b}")
ROWS = {
    "row": ("{a}, {b} and {c} in a row", "from left to right: {a}, {b} and {c}", "{a}, {b}, {c} side by side",
            "{a}, {b} and {c} from left to right", "a row of {a}, {b} and {c}"),
    "column": ("{a}, {b} and {c} in a column", "from top to bottom: {a}, {b} and {c}", "{a} above {b} above {c}",
               "{a}, {b} and {c} from top to bottom", "{a} over {b} over {c}"),
    None: ("{a}, {b} and {c}", "{a} and {b} and {c}", "{a}, {b}, {c}", "{a} with {b} and {c}"),
}  # fmt: skip
MANY = {
    "row": ("{many} in a row", "a row of {many}", "{many} side by side"),
    "column": ("{many} in a column", "a column of {many}", "{many} one above the other"),
    "left": ("{many} side by side", "{many} next to each other", "{many} in a row"),
    "above": ("{many} one above the other", "{many} in a column"),
    None: ("{many}",),
}
BACKGROUNDS = (
    "{what} on a {colour} background", "{what} on {colour}", "{what} on a {colour} background",
    "{what} against a {colour} background", "{what} in front of {colour}", "{what} with a {colour} background",
    "{what}, {colour} background", "on a {colour} background, {what}", "on {colour}: {what}",
    "{what} on a {colour} canvas", "{what} against {colour}", "{what} on a {colour} backdrop",
)  # fmt: skip
NOTHING = (
    "a plain {colour} background", "nothing on a {colour} background", "an empty {colour} picture",
    "just {colour}", "a {colour} canvas with nothing on it", "an empty {colour} background",
)  # fmt: skip
OPENINGS = (
    "draw {what}", "a picture of {what}", "please draw {what}", "paint {what}", "show me {what}", "an image of {what}",
    "a drawing of {what}", "i want {what}", "can you draw {what}", "make a picture of {what}", "there is {what}",
)  # fmt: skip


def with_article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def noun(shape: Shape, chance: random.Random, plural: bool = False) -> str:
    """`large red circle` in one of the ways to say it, without its article."""
    kind = (
        chance.choice(KIND_WORDS[shape.kind])
        if shape.kind
        else chance.choice(("shape", "shape", "thing", "figure"))
    )
    if plural:
        kind = kind + ("es" if kind.endswith(("s", "x")) else "s")
    colour = chance.choice(COLOUR_WORDS[shape.colour]) if shape.colour else ""
    size = chance.choice(SIZE_WORDS[shape.size]) if shape.size else ""
    style = chance.choice(STYLE_WORDS[shape.style]) if shape.style else ""
    before = [size, *chance.sample([style, colour], 2)]
    after = ""
    if colour and not plural and chance.random() < 0.06:
        before[before.index(colour)] = ""
        after = f" in {colour}" if chance.random() < 0.5 else f" that is {colour}"
    return " ".join(word for word in (*before, kind) if word) + after


def phrase(shape: Shape, chance: random.Random) -> str:
    if shape.style == "outlined" and chance.random() < 0.2:
        plain = noun(Shape(shape.kind, shape.colour, shape.size), chance)
        return f"the outline of {with_article(plain)}"
    text = noun(shape, chance)
    return text if chance.random() < 0.06 else with_article(text)


def caption(scene: Scene, chance: random.Random) -> str:
    """One way to ask for a scene, saying no more than it says."""
    if not scene.shapes:
        return written(chance.choice(NOTHING).format(colour=_colour(scene.background, chance)), chance)
    what = _arranged(scene, chance)
    if scene.background:
        text = chance.choice(BACKGROUNDS).format(what=what, colour=_colour(scene.background, chance))
    else:
        text = what
    if chance.random() < 0.15:
        text = chance.choice(OPENINGS).format(what=text)
    return written(text, chance)


def _arranged(scene: Scene, chance: random.Random) -> str:
    shapes = scene.shapes
    if len(shapes) == 1:
        text = phrase(shapes[0], chance)
        if not scene.layout:
            return text
        where = chance.choice(PLACE_WORDS[scene.layout])
        return f"{where}, {text}" if chance.random() < 0.1 else f"{text} {where}"
    if len(set(shapes)) == 1 and chance.random() < 0.8:
        many = f"{('two', 'three')[len(shapes) - 2]} {noun(shapes[0], chance, plural=True)}"
        return chance.choice(MANY[scene.layout]).format(many=many)
    phrases = [phrase(shape, chance) for shape in shapes]
    if len(shapes) == 3:
        a, b, c = phrases
        return chance.choice(ROWS[scene.layout]).format(a=a, b=b, c=c)
    ways = {"above": ABOVE, "left": LEFT, None: TWO}[scene.layout]
    return chance.choice(ways).format(a=phrases[0], b=phrases[1])


def _colour(colour: str | None, chance: random.Random) -> str:
    return chance.choice(COLOUR_WORDS[colour or "white"])


def written(text: str, chance: random.Random) -> str:
    """The text, now and then with a capital letter and a full stop."""
    if chance.random() < 0.25:
        text = text[0].upper() + text[1:]
    return text + "." if chance.random() < 0.15 else text


def in_full(picture: Picture, scene: Scene) -> str:
    """The one way in which the language model describes a whole scene."""
    ground = f"on {with_article(picture.background)} background"
    if not picture.shapes:
        return f"a plain {picture.background} background"
    phrases = [
        with_article(_plain(placed, shape))
        for placed, shape in zip(picture.shapes, scene.shapes, strict=True)
    ]
    match len(phrases):
        case 1:
            return f"{phrases[0]} {PLACE_WORDS[scene.layout or 'middle'][0]} {ground}"
        case 2:
            between = "above" if scene.layout == "above" else "to the left of"
            return f"{phrases[0]} {between} {phrases[1]} {ground}"
        case _:
            way = "from top to bottom" if scene.layout == "column" else "from left to right"
            return f"{phrases[0]}, {phrases[1]} and {phrases[2]} {way} {ground}"


def _plain(placed: Placed, shape: Shape) -> str:
    style = "outlined " if placed.style == "outlined" else ""
    return f"{shape.size or 'medium'} {style}{placed.colour} {placed.kind}"
