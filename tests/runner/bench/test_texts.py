"""What a language model's figures are made of when something goes wrong on the way; the engines are pretended."""

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest

from runner.bench import run, texts
from runner.bench.cases import Case
from runner.bench.clients import Figures
from runner.bench.options import Options
from runner.bench.records import Report
from runner.errors import RunnerFailed

OPTIONS = Options(clients=(1, 8), rounds=2)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> dict[tuple[str, int], BaseException]:
    """What engines raise, by name and number of clients; they give a token a second otherwise."""
    raised: dict[tuple[str, int], BaseException] = {}

    def once(name: str, engine: Any, case: Case, prompts: Any, number: int, options: Options) -> Figures:
        if (engine, case.clients) in raised:
            raise raised[engine, case.clients]
        return Figures({"http": 1.0 + number}, growth=number, preemptions=3 - number)

    @contextlib.contextmanager
    def pretended(names: list[str], *_: Any) -> Iterator[dict[str, Any]]:
        yield {name: name for name in names}

    monkeypatch.setattr(texts, "_once", once)
    monkeypatch.setattr(texts, "_running", pretended)
    monkeypatch.setattr(texts, "why_missing", lambda name, where, draws: None)
    monkeypatch.setattr(run, "write_texts", lambda spec, folder: None)
    monkeypatch.setattr(run, "write_weights", lambda spec, folder, options: "")
    return raised


def measured(options: Options = OPTIONS) -> tuple[Report, set[tuple[str, int]]]:
    report = run.run(["qwen3-0.6b"], options, "diptych bench")
    return report, {(record.engine, record.clients) for record in report.records}


def test_a_peer_that_fails_costs_its_own_figures_alone(failing: dict[Any, BaseException]) -> None:
    failing["mlx_lm.server", 8] = RunnerFailed("it lost 8 of 8 requests")
    report, found = measured()
    assert found == {
        ("mlx", 1), ("mlx", 8), ("mlx-lm", 1), ("mlx-lm", 8), ("mlx_lm.server", 1), ("torch-compile", 1),
        ("torch-compile", 8),
    }  # fmt: skip
    assert report.missing == {"mlx_lm.server, 8 clients": "it lost 8 of 8 requests"}
    assert not report.failed


def test_a_peer_that_does_not_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def engine(name: str, *_: Any) -> Any:
        if name in broken:
            raise RunnerFailed(f"{name} ended (1)")
        return name

    monkeypatch.setattr(texts, "_engine", engine)
    report = Report(date="", command="", machine={}, versions={})
    broken, names = {"mlx_lm.server"}, ["mlx", "mlx_lm.server", "mlx-lm"]
    with texts._running(names, "", OPTIONS, {}, report, print) as engines:
        assert list(engines) == ["mlx", "mlx-lm"]
    assert report.missing == {"mlx_lm.server": "mlx_lm.server ended (1)"}
    broken = {"mlx"}
    with pytest.raises(RunnerFailed), texts._running(names, "", OPTIONS, {}, report, print):
        pass


@pytest.mark.parametrize(
    ("error", "told"), [(RunnerFailed("it ended"), "it ended"), (KeyboardInterrupt(), "interrupted")]
)
def test_what_was_measured_before_an_end_is_kept(
    failing: dict[Any, BaseException], error: BaseException, told: str
) -> None:
    failing["mlx", 8] = error
    report, found = measured()
    assert ("mlx", 1) in found
    assert report.failed == [f"qwen3-0.6b: {told}"]


def test_the_first_round_stands_beside_the_others(failing: dict[Any, BaseException]) -> None:
    report, _ = measured()
    record = next(record for record in report.records if record.engine == "mlx")
    assert (record.first_round, record.values) == (1.0, (2.0, 3.0))
    assert (record.peak, record.preemptions) == (2, 2)  # the most of a round that counts


def test_engines_without_a_server_sit_out_a_long_prompt(failing: dict[Any, BaseException]) -> None:
    _, found = measured(Options(clients=(8,), rounds=1, long=1000))
    assert found == {("mlx", 8), ("mlx_lm.server", 8)}


def test_prompts_to_edit_are_written_with_and_without_lookup(failing: dict[Any, BaseException]) -> None:
    _, found = measured(Options(engines=("mlx",), clients=(1,), rounds=1, edit=True))
    assert found == {("mlx", 1), ("mlx-lookup", 1)}
