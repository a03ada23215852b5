"""GGUF repos of the hub: named with a quantization, looked at without a download, then downloaded one file of many."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from models.language.load import load
from runner.errors import ModelNotFound, ModelNotSupported
from runner.inspect.detect import check_runnable, detect
from runner.library import entry_of, installed
from runner.library.download import plan_download
from runner.library.removal import plan_removal
from runner.library.scan import lookup
from runner.sources import ModelMode, find
from runner.sources.find import find_here
from runner.sources.name import HubName, ModelName
from tests.hub_server import HubServer
from tests.models.language.gguf.vision_files import described, write_pair
from tests.models.vision.vision_cases import CASES
from tests.runner.sources.test_gguf import logits, split
from tests.toys import toy_text
from tests.toys.gguf import toy_gguf

REPO = "toys/llama-GGUF"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("OLLAMA_MODELS", str(tmp_path / "store"))
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    with HubServer() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        yield server


def add(hub: HubServer, tmp_path: Path) -> dict[str, bytes]:
    """A repo with three quantizations, one of them split, and what does not count."""
    whole = toy_gguf(tmp_path / "F32.gguf")
    parts = split(whole, tmp_path / "parts")
    files = {
        "README.md": b"words",
        "llama-toy.F16.gguf": toy_gguf(tmp_path / "F16.gguf", kind="F16").read_bytes(),
        "llama-toy.BF16.gguf": toy_gguf(tmp_path / "BF16.gguf", kind="BF16").read_bytes(),
        "llama-toy.imatrix.gguf": b"GGUF",
        **{f"F32/{path.name}": path.read_bytes() for path in parts},
    }
    hub.add(REPO, files)
    return files


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b:Q4_K_M", HubName("a/b", "main", "Q4_K_M")),
        ("hf:a/b:IQ4_XS", HubName("a/b", "main", "IQ4_XS")),
        ("a/b@v2:UD-Q4_K_XL", HubName("a/b", "v2", "UD-Q4_K_XL")),
        ("hf.co/a/b:Q8_0", HubName("a/b", "main", "Q8_0")),
        ("huggingface.co/a/b", HubName("a/b", "main")),
        ("a/b:8b", None),
        ("a/b:latest", None),
        ("a/b:", None),
        ("b:Q4_0", None),
    ],
)
def test_a_quantization_follows_the_name_of_a_repo(name: str, expected: HubName | None) -> None:
    parsed = ModelName.parse(name)
    assert parsed.hub == expected
    assert expected is None or ModelName.parse(f"hf:{expected}").hub == expected


def test_a_model_is_looked_at_without_a_download(hub: HubServer, tmp_path: Path) -> None:
    files = add(hub, tmp_path)
    detection = detect(f"{REPO}:F16")
    assert detection.supported
    assert (detection.type, detection.source, detection.name) == ("llama", "hub", f"{REPO}:F16")
    assert detection.parameters == detect(str(toy_text("llama"))).parameters
    plan = plan_download(f"{REPO}:F16")
    assert len(files["llama-toy.F16.gguf"]) <= plan.bytes < len(files["llama-toy.F16.gguf"]) + 20_000
    assert plan.fault is None
    assert not list((tmp_path / "hub").rglob("*.gguf"))


@pytest.mark.parametrize(("word", "file"), [("F16", "F16.gguf"), ("bf16", "BF16.gguf"), ("F32", "F32.gguf")])
def test_one_of_several_is_downloaded_and_says_what_its_file_says(
    hub: HubServer, tmp_path: Path, word: str, file: str
) -> None:
    add(hub, tmp_path)
    done: list[tuple[int, int]] = []
    files = find(f"{REPO}:{word}")
    check_runnable(files)
    files.fetch(ModelMode.TEXT, lambda now, total: done.append((now, total)))
    assert done[-1][0] == done[-1][1] > 100_000
    assert len(list((tmp_path / "hub").rglob("*.gguf"))) == (3 if word == "F32" else 1)
    hub.requests.clear()
    np.testing.assert_array_equal(logits(f"hf:{REPO}:{word}"), logits(tmp_path / file))
    assert not hub.requests


def test_what_is_here_is_listed_by_its_quantization_and_removed(hub: HubServer, tmp_path: Path) -> None:
    add(hub, tmp_path)
    find(f"{REPO}:F16").fetch(ModelMode.TEXT)
    (model,) = installed().models
    assert (model.name, model.source, model.type, model.fault) == (f"{REPO}:F16", "hub", "llama", None)
    here = find_here(REPO)
    assert here is not None
    assert entry_of(here) == model == lookup({model.name: model}, REPO)
    find(f"{REPO}:BF16").fetch(ModelMode.TEXT)
    assert {model.name for model in installed().models} == {f"{REPO}:F16", f"{REPO}:BF16"}
    plan = plan_removal(f"{REPO}:F16")
    assert (plan.also, plan.bytes > 100_000) == ((), True)
    plan.run()
    assert {model.name for model in installed().models} == {f"{REPO}:BF16"}
    assert len(list((tmp_path / "hub").rglob("*.gguf"))) == 1
    plan_removal(f"{REPO}:BF16").run()
    assert not installed().models
    assert not list((tmp_path / "hub").rglob("*.gguf"))


def test_a_quantization_that_is_not_there_is_refused_with_those_that_are(
    hub: HubServer, tmp_path: Path
) -> None:
    add(hub, tmp_path)
    with pytest.raises(ModelNotSupported, match=r"no GGUF file 'Q4_K_M'; it has .*llama-toy\.F16\.gguf"):
        find(f"{REPO}:Q4_K_M")
    with pytest.raises(ModelNotSupported, match="has several GGUF files; name one"):
        find(REPO)
    with pytest.raises(ModelNotFound):
        find("toys/absent:Q4_K_M")


def test_without_a_quantization_the_usual_one_is_taken(hub: HubServer, tmp_path: Path) -> None:
    one, other = (toy_gguf(tmp_path / f"{kind}.gguf", kind=kind).read_bytes() for kind in ("F16", "BF16"))
    hub.add(REPO, {"toy-Q4_K_M.gguf": one, "toy-Q8_0.gguf": other, "toy-Q4_K_S.gguf": other})
    assert detect(REPO).quantization == "F16 (declared: F16)"


def test_a_repo_with_a_checkpoint_is_that_unless_a_quantization_is_named(
    hub: HubServer, tmp_path: Path
) -> None:
    files = {path.name: path.read_bytes() for path in toy_text("qwen3").iterdir() if path.is_file()}
    hub.add(REPO, {**files, "toy-F16.gguf": toy_gguf(tmp_path / "F16.gguf", kind="F16").read_bytes()})
    assert detect(REPO).type == "qwen3"
    assert detect(f"{REPO}:F16").type == "llama"


def test_the_projector_of_a_model_that_sees_is_looked_at_and_downloaded_with_it(
    hub: HubServer, tmp_path: Path
) -> None:
    path = write_pair(tmp_path / "toy", CASES["qwen3-vl"], described("qwen3-vl"), kind="F16")
    projector = (path.parent / "mmproj-toy.gguf").read_bytes()
    hub.add(
        REPO, {"toy-F32.gguf": path.read_bytes(), "mmproj-BF16.gguf": b"GGUF", "mmproj-F16.gguf": projector}
    )
    detection = detect(REPO)
    assert (detection.type, detection.sees) == ("qwen3_vl", True)
    assert plan_download(REPO).bytes >= path.stat().st_size + len(projector)
    find(REPO).fetch(ModelMode.TEXT)
    assert {file.name for file in (tmp_path / "hub").rglob("*.gguf")} == {"toy-F32.gguf", "mmproj-F16.gguf"}
    hub.requests.clear()
    assert detect(REPO).sees
    assert load(find(REPO).fetch(ModelMode.TEXT)).vision is not None
    assert not hub.requests


def test_a_damaged_file_is_refused_before_its_download(hub: HubServer, tmp_path: Path) -> None:
    hub.add(REPO, {"toy-F16.gguf": toy_gguf(tmp_path / "x.gguf").read_bytes()[:3000]})
    with pytest.raises(ModelNotSupported, match="cut short"):
        detect(REPO)
