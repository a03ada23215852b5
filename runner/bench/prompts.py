"""Prompts for language models: of some forty words, of a number of tokens, or a file to edit."""

import random
from functools import cached_property
from pathlib import Path

from tokenizers import Tokenizer

from runner.bench.cases import Case
from runner.bench.options import Lengths
from runner.errors import BadRequest

# fmt: off
WORDS = [
    "harbour", "gull", "boat", "net", "dog", "rope", "door", "sea", "blue", "town", "morning", "bread", "rain", "roof",
    "book", "tea", "light", "north",
]
# fmt: on
NAMES = ("price", "weight", "height", "speed", "score", "balance", "volume", "distance")
VERBS = ("read", "check", "convert", "store", "compare", "print")
# Reads like code, and is written back with one name changed: most of the answer is in the prompt.
FUNCTION = '''\
def {verb}_{name}({name}, records):
    """{Verb} the {name} of all records."""
    total = {start}
    for record in records:
        if record.{name} > {name}:
            total = total + record.{name}
    return total


'''


def short_prompts(count: int, round_number: int, words: int = 40) -> list[str]:
    """New ones in each round, so that no prompt cache helps; the same for every engine."""
    return [
        f"Round {round_number}, {number}: "
        + " ".join(WORDS[(round_number * 7 + number * 5 + i * (i + 3)) % len(WORDS)] for i in range(words))
        for number in range(count)
    ]


class Prompts:
    """The prompts of each round, which depend on `seed`, the case and the round alone."""

    def __init__(self, folder: Path, seed: int) -> None:
        """`folder`: of the model, whose tokenizer counts."""
        self._folder, self._seed = folder, seed

    def of(self, case: Case, round_number: int, series: int = 0) -> list[str]:
        """One for each client. Those of another `series` are of the same kind, and share no beginning with these."""
        chance = random.Random(f"{self._seed} {case} {round_number} {series}")
        if case.edit:
            return [edit_prompt(chance) for _ in range(case.clients)]
        count = case.clients - case.comes_late
        if case.lengths is None and not case.long:
            return short_prompts(count, round_number)
        lengths = draw_lengths(case.lengths or (40, 40), count, chance)
        for at in chance.sample(range(count), case.long_count):
            lengths[at] = case.long
        return [self._text(length, chance) for length in lengths]

    def late(self, case: Case, round_number: int) -> str:
        """The long prompt that comes while the others are answered."""
        return self._text(case.long, random.Random(f"{self._seed} {case} {round_number} late"))

    def _text(self, tokens: int, chance: random.Random) -> str:
        """This many tokens, give or take one that the cut makes; no other text begins like it."""
        words = [f"{chance.getrandbits(32):x}", *chance.choices(WORDS, k=tokens)]
        text = " ".join(words)
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        return text[: encoding.offsets[tokens - 1][1]]

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        path = self._folder / "tokenizer.json"
        if not path.is_file():
            raise BadRequest(
                f"prompts of a number of tokens need the model's tokenizer.json, which {self._folder} does not have"
            )
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer


def draw_lengths(lengths: Lengths, count: int, chance: random.Random) -> list[int]:
    """A length for each request, all different where the range has that many."""
    least, most = lengths
    choices = range(least, most + 1)
    return chance.sample(choices, count) if count <= len(choices) else chance.choices(choices, k=count)


def edit_prompt(chance: random.Random) -> str:
    """A file, and the start of the same file with one name changed: small models understand that, too."""
    names = chance.sample(NAMES, 4)
    functions = [
        FUNCTION.format(verb=verb, Verb=verb.capitalize(), name=name, start=chance.randrange(1000))
        for name in names
        for verb in chance.sample(VERBS, 2)
    ]
    file, start = "".join(functions).rstrip(), functions[0].replace("total", "amount")
    return (
        f"File {chance.randrange(10**6)}:\n\n```python\n{file}\n```\n\n"
        f"The same file, with `total` renamed to `amount`:\n\n```python\n{start}"
    )
