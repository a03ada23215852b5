"""One round of requests to a server: what is sent, and what a round with losses comes to; the server is pretended."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from runner.bench import clients
from runner.bench.cases import Case
from runner.bench.clients import one_round
from runner.bench.prompts import Prompts
from runner.bench.servers import DIPTYCH, MLX_LM, ServerKind
from runner.errors import RunnerFailed
from tests.toys import toy_text

SEEN = {
    "tokens_per_second": 100.0, "first_token": 0.1, "gap_median": 0.01, "gap_p99": 0.02, "gap_longest": 0.03,
    "lost": 0, "failures": [], "drafted": 0, "accepted": 0,
}  # fmt: skip


@dataclass
class Pretended:
    """A process that tells a status each time, the last one from then on."""

    kind: ServerKind = DIPTYCH
    statuses: list[dict[str, int]] = field(default_factory=lambda: [{"Memory": 0, "preemptions": 0}])

    def status(self) -> dict[str, int]:
        return self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]

    def tail(self, size: int) -> str:
        return "out of memory"


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The bodies that were sent. What is put under "seen" is what the clients saw."""
    sent: dict[str, Any] = {"seen": {}}

    def ask(process: Any, bodies: list[Any], count: int, timeout: float, late: Any) -> dict[str, Any]:
        sent.update(bodies=bodies, late=late)
        return SEEN | sent["seen"]

    monkeypatch.setattr(clients, "ask_together", ask)
    return sent


def a_round(case: Case, process: Pretended | None = None, **options: Any) -> clients.Figures:
    prompts = Prompts(Path(toy_text()), 0)
    return one_round(process or Pretended(), case, prompts, 1, 16, **options)  # type: ignore[arg-type]


def test_every_client_sends_one_prompt(sent: dict[str, Any]) -> None:
    figures = a_round(Case(3, (20, 30)))
    assert len({body["prompt"] for body in sent["bodies"]}) == 3
    assert sent["late"] is None
    assert figures.values == {"http": 100.0, "first token": 0.1, "gap": 0.01}


def test_one_client_of_all_brings_the_long_prompt(sent: dict[str, Any]) -> None:
    sent["seen"] = {"late_first_token": 2.0, "late_failure": ""}
    figures = a_round(Case(3, long=100))
    assert len(sent["bodies"]) == 2
    assert len(sent["late"]["prompt"]) > max(len(body["prompt"]) for body in sent["bodies"])
    assert figures.values == {
        "long prompt, first token": 2.0, "gap": 0.01, "gap, p99": 0.02, "gap, longest": 0.03,
    }  # fmt: skip


@pytest.mark.parametrize(("lookup", "word"), [(True, "lookup"), (False, "off")])
def test_prompts_to_edit_say_whether_tokens_are_looked_up(
    lookup: bool, word: str, sent: dict[str, Any]
) -> None:
    sent["seen"] = {"drafted": 8, "accepted": 6}
    figures = a_round(Case(2, edit=True), lookup=lookup)
    assert [body["options"]["speculate"] for body in sent["bodies"]] == [word] * 2
    assert figures.note == ("with lookup, 6 of 8 drafted tokens accepted" if lookup else "")


def test_a_peer_hears_nothing_of_lookup(sent: dict[str, Any]) -> None:
    a_round(Case(1, edit=True), Pretended(MLX_LM))
    assert "speculate" not in str(sent["bodies"])


@pytest.mark.parametrize(
    ("seen", "options", "told"),
    [
        ({"lost": 2, "failures": ["no answer"]}, {}, r"diptych lost 2 of 3 requests: \['no answer'\]; out of memory"),
        ({"drafted": 0}, {"lookup": True}, "diptych drafted no tokens"),
        ({"drafted": None}, {"lookup": True}, "diptych drafted no tokens"),
    ],
)  # fmt: skip
def test_figures_of_another_load_are_none(
    seen: dict[str, Any], options: dict[str, Any], told: str, sent: dict[str, Any]
) -> None:
    sent["seen"] = seen
    with pytest.raises(RunnerFailed, match=told):
        a_round(Case(3, edit=True), **options)


def test_a_long_prompt_that_came_too_late_is_an_error(sent: dict[str, Any]) -> None:
    sent["seen"] = {"late_first_token": 0.0, "late_failure": "the other answers were complete"}
    with pytest.raises(
        RunnerFailed, match="the long prompt: the other answers were complete; other --tokens"
    ):
        a_round(Case(3, long=100))


def test_the_growth_of_memory_and_preemptions_are_those_of_the_round(sent: dict[str, Any]) -> None:
    before, after = {"Memory": 1000, "preemptions": 4}, {"Memory": 1500, "preemptions": 6}
    figures = a_round(Case(2), Pretended(statuses=[before, after]), watch=True)
    assert (figures.growth, figures.preemptions) == (500, 2)
    assert a_round(Case(2)).preemptions is None
