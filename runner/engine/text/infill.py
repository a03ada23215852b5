"""Prompts for text in the middle of another: what comes before and after, between the tokens that the model knows for it."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from models.tokenizers.fill_in_middle import FillTokens, fill_tokens
from runner.errors import BadRequest
from runner.protocol.text import Infill

NOT_FOR = "this model has no tokens for filling in the middle; put all that comes before into the prompt"
REPOSITORY = "myproject"  # llama.cpp's, which files of a request belong to
# Of a prompt that does not fit: the share of what comes before, as llama.cpp has it.
SHARE_BEFORE = 0.75


@dataclass(frozen=True)
class InfillPrompt:
    """`cut`: how many tokens were left out because they did not fit."""

    ids: list[int]
    cut: int = 0


class InfillPrompts:
    """Of one model. `encode` makes ids of text; `start` are those with which its texts begin."""

    def __init__(
        self, vocabulary: Mapping[str, int], encode: Callable[[str], list[int]], start: list[int]
    ) -> None:
        self._tokens = fill_tokens(vocabulary)
        self._vocabulary = vocabulary
        self._encode = encode
        self._start = start

    @property
    def ends(self) -> frozenset[int]:
        """Tokens that end a middle, beside those that end any text."""
        return frozenset(self._vocabulary[word] for word in (self._tokens.ends if self._tokens else ()))

    def prompt(
        self, before: list[int] | str, infill: Infill, room: int | None, name: str = "suffix"
    ) -> InfillPrompt:
        """`room`: how long it may be at most, if it may be cut."""
        tokens = self._tokens
        if tokens is None:
            raise BadRequest(f"{name}: {NOT_FOR}")
        prefix = self._plain(before, tokens) if isinstance(before, str) else before
        suffix, begun = self._plain(infill.suffix, tokens), self._plain(infill.begun, tokens)
        files = [ids for file in infill.files for ids in self._file(file.filename, file.text, tokens)]
        if files and tokens.repository is not None:
            files = [self._vocabulary[tokens.repository], *self._encode(f"{REPOSITORY}\n"), *files]
        if files and tokens.file is not None:
            files += [self._vocabulary[tokens.file], *self._encode("filename\n")]
        marks = 2 if tokens.middle is None else 3
        whole = len(prefix) + len(suffix) + len(files)
        if room is not None:
            left = max(room - len(self._start) - marks - len(begun), 0)
            prefix, suffix = _shortened(prefix, suffix, left)
            files = files if len(files) <= left - len(prefix) - len(suffix) else []
        cut = whole - len(prefix) - len(suffix) - len(files)
        return InfillPrompt([*self._start, *files, *self._around(prefix, suffix, tokens), *begun], cut)

    def _around(self, prefix: list[int], suffix: list[int], tokens: FillTokens) -> list[int]:
        before, after = self._vocabulary[tokens.prefix], self._vocabulary[tokens.suffix]
        if tokens.middle is None:
            return [after, *suffix, before, *prefix]
        return [before, *prefix, after, *suffix, self._vocabulary[tokens.middle]]

    def _file(self, name: str, text: str, tokens: FillTokens) -> list[int]:
        if tokens.file is None:  # as text, in the form that llama.cpp gives it
            return self._plain(f"\n\n--- snippet ---\n\n{text}", tokens)
        return [self._vocabulary[tokens.file], *self._plain(f"{name or 'tmp'}\n{text}", tokens)]

    def _plain(self, text: str, tokens: FillTokens) -> list[int]:
        """Text in which the words of these tokens mean nothing: source code may have them."""
        if not text:
            return []
        # Each is split behind its first character, so that no part is a token.
        inside = "|".join(f"(?<={re.escape(word[0])})(?={re.escape(word[1:])})" for word in tokens.words)
        return [id for part in re.split(inside, text) for id in self._encode(part)]


def _shortened(prefix: list[int], suffix: list[int], room: int) -> tuple[list[int], list[int]]:
    """The end of what comes before and the beginning of what comes after, as much as fits."""
    before = min(len(prefix), max(int(room * SHARE_BEFORE), room - len(suffix)))
    return prefix[len(prefix) - before :], suffix[: room - before]
