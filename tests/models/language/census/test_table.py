"""docs/verified-models.md says what the census is run on."""

from models.language.config.support import REFUSED

from . import table
from .types import NOT_COMPARABLE, TOWERS, VERIFIED


def test_the_page_is_the_census() -> None:
    assert table.FILE.read_text(encoding="utf-8") == table.page()


def test_a_type_has_one_line() -> None:
    lists = [set(VERIFIED), set(TOWERS), set(REFUSED), set(NOT_COMPARABLE)]
    assert sum(map(len, lists)) == len(set().union(*lists))
    assert len(VERIFIED) + len(TOWERS) >= 60
