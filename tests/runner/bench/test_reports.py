"""Records to tables, pages, charts and JSON, and back."""

from pathlib import Path

import msgspec
import pytest
from msgspec.structs import replace
from PIL import Image

from runner.bench.growth import growth_panels
from runner.bench.plot import COLOURS, _by_device, _panels, plot
from runner.bench.records import Record, Report, read_reports
from runner.bench.report import keep
from runner.bench.table import amount, markdown, row, show
from runner.errors import BadRequest

STEP = Record(
    model="klein-4b", engine="mlx", part="step", unit="s", values=(0.061, 0.059, 0.065), width=1024, height=1024,
    dtype="bfloat16", floor=0.044, peak=17_000_000_000, peak_of="all",
)  # fmt: skip
TEXT = Record(
    model="qwen3-4b", engine="mlx_lm.server", part="http", unit="tokens/s", values=(240.0, 250.0), clients=8
)
PEER = Record(
    model="klein-4b", engine="torch", part="step", unit="s", values=(0.085,), width=1024, height=1024
)


def report(date: str = "2026-11-20T21:00:00Z") -> Report:
    return Report(
        date=date,
        command="diptych bench klein-4b",
        machine={"device": "H200"},
        versions={"mlx": "0.32.4"},
        records=[STEP, PEER, TEXT],
        rates={"bfloat16": 7.1e14},
        missing={"mflux": "mflux not installed"},
    )


def test_a_median_is_put_beside_its_floor() -> None:
    assert STEP.median == 0.061
    assert STEP.of_floor == pytest.approx(0.061 / 0.044)
    assert row(STEP) == (
        "step", "mlx", "1024x1024", "bfloat16", "61 ms", "59 to 65, 3", "44 ms (x1.39)", "17.00 GB",
    )  # fmt: skip


def test_speed_has_no_floor_and_a_single_value_no_spread() -> None:
    assert TEXT.of_floor is None
    assert row(PEER)[5] == "once"


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (0.0612, "s", "61.2 ms"),
        (2.345, "s", "2.35 s"),
        (252.4, "tokens/s", "252 tokens/s"),
        (9.87, "tokens/s", "9.9 tokens/s"),
    ],
)
def test_amounts_have_about_three_digits(value: float, unit: str, shown: str) -> None:
    assert amount(value, unit) == shown


def test_a_table_tells_what_a_reader_must_know() -> None:
    told = show(report())
    for word in ("2026-11-20", "H200", "mlx 0.32.4", "mflux not installed", "710 TFLOP/s"):
        assert word in told
    assert "`diptych bench klein-4b`" in markdown(report())


def test_a_report_comes_back_from_its_file(tmp_path: Path) -> None:
    report().write(tmp_path / "a.json")
    (found,) = read_reports([tmp_path / "a.json"])
    assert found == report()


@pytest.mark.parametrize("content", ["{", "[]", '{"date": 1}', '{"date": "", "command": ""}'])
def test_what_is_no_report_is_named(content: str, tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(content)
    with pytest.raises(BadRequest, match=r"b\.json is not a report"):
        read_reports([path])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match=r"none\.json cannot be read"):
        read_reports([tmp_path / "none.json"])


def test_a_page_is_made_anew_and_its_notes_stay(tmp_path: Path) -> None:
    page = tmp_path / "measurements.md"
    keep([report()], page)
    page.write_text(page.read_text() + "\nFusing the norms: expected 2 ms, found 1.\n")
    keep([report(), report("2026-12-01T10:00:00Z")], page)
    text = page.read_text()
    assert text.count("Fusing the norms: expected 2 ms, found 1.") == 1
    assert text.index("2026-12-01") < text.index("2026-11-20")
    assert text.count("## Notes") == 1


def test_runs_that_are_in_a_page_stay_there(tmp_path: Path) -> None:
    page = tmp_path / "measurements.md"
    dates = ["2026-11-20T21:00:00Z", "2026-12-01T10:00:00Z", "2026-11-30T10:00:00Z"]
    for date in dates:
        keep([report(date)], page)
    once = page.read_text()
    assert [line[:20] for line in once.splitlines() if line[20:22] == ", "] == sorted(dates, reverse=True)
    keep([report(dates[0])], page)  # measured once, told once
    assert page.read_text() == once


def test_two_runs_may_begin_in_one_second(tmp_path: Path) -> None:
    page = tmp_path / "measurements.md"
    other = msgspec.structs.replace(report(), command="diptych bench qwen3-4b")
    keep([report(), other], page)
    keep([report("2026-12-01T10:00:00Z")], page)
    assert page.read_text().count("\n### ") == 3
    assert "`diptych bench qwen3-4b`" in page.read_text()


def test_another_page_is_never_overwritten(tmp_path: Path) -> None:
    page = tmp_path / "README.md"
    page.write_text("# Mine\n")
    with pytest.raises(BadRequest, match="not a page of the bench"):
        keep([report()], page)
    assert page.read_text() == "# Mine\n"


def test_a_chart_has_a_bar_in_each_engines_colour(tmp_path: Path) -> None:
    plot([report()], tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        seen = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in picture.convert("RGB").getcolors(1 << 20)}
    assert {COLOURS["mlx"], COLOURS["torch"], COLOURS["mlx_lm.server"]} <= seen


def test_a_chart_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadRequest, match="nothing to draw"):
        plot([Report(date="", command="", machine={}, versions={})], tmp_path / "chart.png")


def test_figures_of_different_devices_share_no_panel() -> None:
    one = replace(report(), records=[STEP], machine={"device": "NVIDIA H100"})
    other = replace(one, machine={"device": "NVIDIA H200"})
    assert [panel.title for panel in _by_device([one, one])] == ["klein-4b: step"]
    assert [(panel.title, len(panel.records)) for panel in _by_device([one, other, one])] == [
        ("klein-4b: step, NVIDIA H100", 2),
        ("klein-4b: step, NVIDIA H200", 1),
    ]


def test_where_sizes_grow_the_chart_shows_what_a_megapixel_costs() -> None:
    sizes = [
        replace(STEP, width=side, height=side, values=(0.06 * side / 1024,)) for side in (512, 1024, 2048)
    ]
    panels = _panels(sizes)
    assert [panel.title for panel in panels] == ["klein-4b: step", "klein-4b: step, for each megapixel"]
    assert [record.median for record in panels[1].records] == pytest.approx([0.12, 0.06, 0.03])


def gaps(engine: str, **of: tuple[int, int] | int) -> Record:
    return msgspec.structs.replace(
        TEXT, engine=engine, part="gap", unit="s", values=(0.001 * max(1, len(of)),), **of
    )


def test_where_clients_or_prompts_grow_there_is_a_line_for_each_engine(tmp_path: Path) -> None:
    by_clients = [gaps(engine, clients=n) for engine in ("mlx", "mlx_lm.server") for n in (1, 8, 128)]
    by_length = [gaps("mlx", prompt_tokens=(n, n)) for n in (1000, 4000, 32000)]
    panels = list(growth_panels([*by_clients, *by_length]))
    assert [panel.title for panel in panels] == [
        "qwen3-4b: gap by number of clients",
        "qwen3-4b: gap by length of the prompt",
    ]
    assert [line.engine for line in panels[0].lines] == ["mlx", "mlx_lm.server"]
    assert [x for x, _ in panels[1].lines[0].points] == [1000, 4000, 32000]
    run = replace(report(), records=[*by_clients, *by_length])
    plot([run], tmp_path / "chart.png")
    with Image.open(tmp_path / "chart.png") as picture:
        seen = {f"#{r:02x}{g:02x}{b:02x}" for _, (r, g, b) in picture.convert("RGB").getcolors(1 << 20)}
    assert {COLOURS["mlx"], COLOURS["mlx_lm.server"]} <= seen


def test_two_points_are_no_line() -> None:
    assert not list(growth_panels([gaps("mlx", clients=n) for n in (1, 8)]))


def test_a_text_says_how_long_its_prompts_are_and_what_its_memory_did() -> None:
    told = replace(
        TEXT, prompt_tokens=(30, 300), long=8000, long_share=0.33, preemptions=2, first_round=90.0,
        peak=0, peak_of="more than before",
    )  # fmt: skip
    cells = row(told)
    assert "prompts of 30 to 300 tokens, 33% of 8000 tokens" in cells[3]
    assert "2 preemptions" in cells[3]
    assert cells[5] == "240 to 250, 2; first round 90.0 tokens/s"
    assert cells[7] == "0.00 GB more than before"
