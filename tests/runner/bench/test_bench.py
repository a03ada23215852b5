"""`diptych bench` as it is called."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runner.bench.records import Record, Report
from runner.bench.specs import SPECS, write_texts
from runner.cli import main
from tests.toys import toy_text
from tests.waiting import PATIENCE

SMALL = ["--size", "64x64", "--steps", "1", "--rounds", "1"]


def bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "runner", "bench", *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--parts", "nonsense"], "'nonsense' is unknown; choose from load, first,"),
        (["--engines", "cuda"], "'cuda' is unknown; choose from mlx, torch,"),
        (["--engines", ","], "it is empty; choose from mlx"),
        (["--size", "1024"], "'1024' is not a size; write it like 1024x1024"),
        (["--size", "0x64"], "not a positive whole number"),
        (["--n", "1,x"], "'x' is not a positive whole number"),
        (["--memory", "lots"], "auto, resident and staged"),
        (["--prompt-tokens", "300-30"], "'300-30' is not a range; write the smaller number first"),
        (["--prompt-tokens", "30-"], "'' is not a positive whole number"),
        (["--prompt-tokens", "long"], "'long' is not a positive whole number"),
        (["--long", "0"], "'0' is not a positive whole number"),
        (["--long-share", "1"], "'1' is not between 0 and 1"),
        (["--long-share", "a third"], "'a third' is not a number"),
        (["--kv-memory", "much"], "much"),
        (["--seed", "x"], "'x' is not a whole number"),
    ],
)
def test_wrong_words_are_answered_with_the_right_ones(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        main.main(["bench", *arguments])
    assert ended.value.code == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["klein-5b"], "klein-5b"),
        (["klein-4b", "--engines", "mflux"], "mflux not installed"),
        (["klein-4b", "--engines", "mlx_lm.server"], "klein-4b cannot be measured with it"),
        (["klein-4b", "--parts", "library"], "--parts library: klein-4b cannot be measured in this part"),
        (["qwen3-0.6b", "--parts", "http,encode"], "--parts encode: qwen3-0.6b"),
        (
            ["klein-4b", "--tensor-parallel", "2"],
            "--tensor-parallel is for language models; klein-4b makes pictures",
        ),
        (["klein-4b", "--edit"], "--edit is for language models; klein-4b makes pictures"),
        (["qwen3-0.6b", "--long-share", "0.5"], "--long-share 0.5 needs --long"),
        (["qwen3-0.6b", "--edit", "--long", "9"], "--edit has prompts of its own"),
        (["qwen3-0.6b", "--long", "9", "--clients", "1"], "--clients 1 is too few"),
        (["qwen3-0.6b", "--long", "9", "--long-share", "0.1", "--clients", "4"], "of --clients 4 is 0"),
        (["qwen3-0.6b", "--long", "40900", "--clients", "2"], "exceed the model's context of 40960"),
        (["klein-4b", "--json", "/nowhere/a.json"], "cannot write /nowhere/a.json: /nowhere is not a folder"),
        (["--add", "/nowhere/a.json"], "/nowhere/a.json cannot be read"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_anything_is_built(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SystemExit) as ended:
        main.main(["bench", *arguments])
    assert ended.value.code in (1, 3)
    assert told in capsys.readouterr().err


@pytest.mark.slow
def test_the_sample_is_measured_part_by_part_and_over_http(tmp_path: Path) -> None:
    kept, chart = tmp_path / "sample.json", tmp_path / "sample.png"
    done = bench(*SMALL, "--engines", "mlx", "--json", str(kept), "--plot", str(chart))
    assert done.returncode == 0, done.stderr
    records = json.loads(kept.read_text())["records"]
    parts = {record["part"] for record in records}
    assert {"load", "first", "encode", "decode", "strips", "picture", "pack", "http"} <= parts
    decode = next(record for record in records if record["part"] == "decode")
    assert decode["floor"] > 0
    assert decode["peak"] > 0
    assert "shapes" in done.stdout
    assert chart.stat().st_size > 1000


@pytest.mark.slow
def test_a_language_model_is_measured_beside_mlx_lm(tmp_path: Path) -> None:
    kept = tmp_path / "text.json"
    options = ["--clients", "2", "--tokens", "4", "--rounds", "1", "--json", str(kept)]
    # PyTorch's compiler would take minutes, on a processor, where it is installed.
    engines = ["--engines", "mlx,mlx-lm,mlx_lm.server"]
    done = bench("--model", str(toy_text()), *engines, *options)
    assert done.returncode == 0, done.stderr
    found = {(r["engine"], r["part"], r.get("clients", 0)) for r in json.loads(kept.read_text())["records"]}
    for engine in ("mlx", "mlx_lm.server"):
        assert {(engine, "http", 2), (engine, "load", 0)} <= found
    assert {("mlx-lm", "library", 2), ("mlx-lm", "raw", 2)} <= found


@pytest.mark.slow
def test_a_long_prompt_is_brought_to_clients_that_write(tmp_path: Path) -> None:
    kept = tmp_path / "long.json"
    options = ["--engines", "mlx", "--parts", "http", "--clients", "3", "--long", "900", "--tokens", "200"]
    done = bench("--model", str(toy_text()), *options, "--rounds", "1", "--json", str(kept))
    assert done.returncode == 0, done.stderr
    records = {record["part"]: record for record in json.loads(kept.read_text())["records"]}
    assert list(records) == ["long prompt, first token", "gap", "gap, p99", "gap, longest"]
    gaps = [records[part]["values"][0] for part in ("gap", "gap, p99", "gap, longest")]
    assert gaps == sorted(gaps)
    assert gaps[0] > 0
    assert records["long prompt, first token"]["preemptions"] == 0
    assert "3 clients, one of 900 tokens, 0 preemptions" in done.stdout
    assert "GB more than before" in done.stdout


@pytest.mark.slow
def test_many_lengths_are_measured_one_after_another_and_make_charts_of_growth(tmp_path: Path) -> None:
    kept, chart = tmp_path / "lengths.json", tmp_path / "lengths.png"
    options = ["--engines", "mlx", "--parts", "http", "--clients", "2", "--tokens", "4", "--rounds", "1"]
    lengths = ["--prompt-tokens", "20-40,80,160", "--kv-memory", "8MB"]
    files = ["--json", str(kept), "--plot", str(chart)]
    done = bench("--model", str(toy_text()), *options, *lengths, *files)
    assert done.returncode == 0, done.stderr
    records = [record for record in json.loads(kept.read_text())["records"] if record["part"] == "http"]
    assert [record["prompt_tokens"] for record in records] == [[20, 40], [80, 80], [160, 160]]
    assert all(record["first_round"] > 0 for record in records)
    assert "prompts of 20 to 40 tokens" in done.stdout
    assert chart.read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_a_language_model_over_two_devices_is_measured_beside_one(tmp_path: Path) -> None:
    kept = tmp_path / "text.json"
    options = [
        "--clients",
        "2",
        "--tokens",
        "4",
        "--rounds",
        "1",
        "--engines",
        "mlx",
        "--tensor-parallel",
        "2",
    ]
    done = bench("--model", str(toy_text()), *options, "--json", str(kept))
    assert done.returncode == 0, done.stderr
    found = {(r["engine"], r["part"]) for r in json.loads(kept.read_text())["records"]}
    assert {("mlx", "http"), ("mlx-spread", "http"), ("mlx-spread", "load")} <= found


def test_named_models_are_cut_in_depth_alone(tmp_path: Path) -> None:
    cut = SPECS["klein-4b"].cut(1)
    assert cut.layers == 1
    assert (cut.parts["transformer"]["num_layers"], cut.parts["text_encoder"]["num_hidden_layers"]) == (1, 4)
    assert cut.parts["transformer"]["num_attention_heads"] == 24
    assert SPECS["klein-4b"].parts["transformer"]["num_layers"] == 5


@pytest.mark.parametrize("name", SPECS)
def test_named_models_are_models_to_the_runner(name: str, tmp_path: Path) -> None:
    from runner.inspect.mode import detect_model_mode
    from runner.sources import find

    write_texts(SPECS[name], tmp_path)
    assert detect_model_mode(find(str(tmp_path))).pipeline == SPECS[name].pipeline


def test_figures_of_earlier_runs_make_chart_and_page_without_measuring(tmp_path: Path) -> None:
    kept = tmp_path / "a.json"
    Report(
        date="2026-11-20T21:00:00Z", command="diptych bench", machine={"device": "H200"}, versions={},
        records=[Record(model="m", engine="mlx", part="step", unit="s", values=(0.1,), width=64, height=64)],
    ).write(kept)  # fmt: skip
    chart, page = tmp_path / "a.png", tmp_path / "a.md"
    with pytest.raises(SystemExit) as ended:
        main.main(["bench", "--add", str(kept), "--plot", str(chart), "--markdown", str(page)])
    assert ended.value.code == 0
    assert chart.read_bytes().startswith(b"\x89PNG")
    assert "| step | mlx | 64x64 |" in page.read_text()


@pytest.mark.slow
def test_an_engine_that_cannot_take_part_is_said_and_what_was_measured_is_kept(tmp_path: Path) -> None:
    kept = tmp_path / "a.json"
    engines = ["--engines", "mlx,mflux", "--mflux", sys.executable, "--parts", "encode,pack"]
    done = bench(*SMALL, *engines, "--json", str(kept))
    assert done.returncode == 1
    assert "mflux cannot take part: mflux ended (exit 1): ModuleNotFoundError" in done.stderr
    assert {record["part"] for record in json.loads(kept.read_text())["records"]} == {"pack"}
