"""Models that see out of GGUF files: logits and texts of transformers, from whose toys the files are made."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.vision.qwen_processor import QwenProcessor
from runner.sources import ModelMode, find
from tests import ROOT
from tests.models.language.gguf.vision_files import GGUF_CASES, WRITERS, split, tower_name
from tests.models.vision.toy import Toy
from tests.models.vision.vision_cases import CASES
from tests.optional import needed

REFERENCES = ROOT / "tests" / "models" / "references"
# Of the toys of all models, those whose settings a GGUF can say.
SHARED = ("qwen2.5-vl", "qwen3-vl", "idefics3", "mistral3")
ALL = {**{name: CASES[name] for name in SHARED}, **GGUF_CASES}
# Ollama's files of Mistral 3 do not say the tower's activation, which is that of all checkpoints.
MISSING = (("idefics3", "ollama"), ("mistral3", "ollama"))
FILES = [(name, writer) for name in ALL for writer in WRITERS if (name, writer) not in MISSING]
TOLERANCE = 1e-4


@pytest.fixture(scope="module")
def described() -> dict[str, Any]:
    return json.loads((REFERENCES / "vision.json").read_text())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIPTYCH_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize(("name", "writer"), FILES)
def test_logits_and_texts_are_those_of_the_original(
    name: str, writer: str, tmp_path: Path, described: dict[str, Any]
) -> None:
    case = ALL[name]
    path = WRITERS[writer](tmp_path, case, described[name])
    toy = Toy.of(find(str(path)).fetch(ModelMode.TEXT))
    if (name, writer) == ("qwen2.5-vl", "ollama"):  # such files leave out how many pixels a picture may have
        toy.vision.processor = QwenProcessor.from_dict(case.processor)  # type: ignore[attr-defined]
    references = np.load(REFERENCES / "vision.npz")
    for number, prompt in enumerate(case.prompts):
        logits, written = toy.run(prompt)
        stored = references[f"{name}/{number}"]
        error = np.abs(logits[-len(stored) :] - stored).max() / np.abs(stored).max()
        assert error < TOLERANCE, (prompt, error)
        assert written == described[name]["written"][number]


@pytest.mark.reference
@pytest.mark.parametrize("name", ALL)
def test_names_of_tensors_are_those_of_the_format(name: str, described: dict[str, Any]) -> None:
    gguf = needed("gguf", "the group reference")
    config = described[name]["config"]
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.MMPROJ, 8)
    _, tower = split(dict.fromkeys(described[name]["shapes"]))
    for key in tower:
        # As the converter knows them: transformers 5 has left out a part of some.
        name, own = key.removeprefix("model."), tower_name(key, config)
        older = [name, key, name.replace("vision_tower.", "vision_tower.vision_model.")]
        older.append(name.replace("projection_weight", "projection.weight"))
        known = {names.get_name(each, try_suffixes=(".weight", ".bias")) for each in older} - {None}
        if "deepstack" in name:  # counted by the converter in blocks of the tower
            known, own = ({re.sub(r"\d+", "N", each) for each in sorted(found)} for found in (known, {own}))
            assert known == own
            continue
        by_converter = any(word in name for word in ("merger", "connector", "post_layernorm"))
        assert known == {own} or (not known and by_converter), key
