"""Commands run in this process, as `diptych …` runs them."""

import json
from dataclasses import dataclass
from typing import Any

import pytest

from runner.cli.main import main


@dataclass(frozen=True)
class Done:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


class Diptych:
    """`diptych("list", "--json")`: the exit code and what was written."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *arguments: str) -> Done:
        with pytest.raises(SystemExit) as ended:
            main(arguments)
        actual = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), actual.out, actual.err)
