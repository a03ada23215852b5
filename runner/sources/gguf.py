"""A model in GGUF files: its header read as the JSON files of a checkpoint, which is what everything else reads."""

import json
import os
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, TypeVar

from models.checkpoint.safetensors import TensorInfo, WeightsError
from models.files import INDEXES, LocalModel
from models.language.gguf.metadata import GGUFError
from models.language.gguf.model import GGUFModel
from models.tokenizers.gguf.vocabulary import Vocabulary, VocabularyError
from runner.errors import ModelNotSupported
from runner.sources.base import ModelFiles, ModelMode, Progress, shorten, some
from runner.sources.gguf_projector import projector_of
from runner.sources.name import ModelName, Source
from runner.sources.texts import TOKENIZER, put_texts

T = TypeVar("T")

SUFFIX = ".gguf"
TEMPLATE = "tokenizer.chat_template"
# Beside the model in a folder or repo: the tower of a model that sees, an importance matrix.
BESIDE = re.compile(r"(?i)mmproj|imatrix|(^|/)mtp-|vocab-only")
_QUANTIZATION = re.compile(
    r"(?i)(?:^|[-.])((?:UD-)?(?:I?Q[1-8][A-Z0-9_]*|TQ[12]_0|B?F16|F32|MXFP4[A-Z_]*))(?=[-.])"
)
_PART = re.compile(r"(?i)(.*)-(\d{5})-of-(\d{5})\.gguf")


class GGUFFiles(ModelFiles):
    """`paths` are the files of one model, in their order; `projector` is the file with what it sees with, if it has one."""

    source: ClassVar[Source] = "folder"
    projector: Path | None = None

    def __init__(self, name: str, paths: Sequence[Path], projector: Path | None = None) -> None:
        super().__init__(name)
        self.paths = tuple(paths)
        self.projector = projector

    @property
    def path(self) -> Path:
        """Of the first file."""
        return self.paths[0]

    @property
    def place(self) -> str:
        return f"file {str(self.paths[0])[-300:]}"

    @cached_property
    def model(self) -> GGUFModel:
        """Raises ModelNotSupported, which says what is wrong with the files."""
        return self._checked(lambda: GGUFModel.open(self.paths, self.place, self.projector))

    def _checked(self, read: Callable[[], T]) -> T:
        try:
            return read()
        except (WeightsError, GGUFError, VocabularyError) as error:
            raise ModelNotSupported(str(error)) from error

    def listing(self) -> Mapping[str, int]:
        return self._listing

    @cached_property
    def _listing(self) -> dict[str, int]:
        texts = {name: len(text) for name, text in self._texts.items()}
        return {**texts, TOKENIZER: 0, **self.sizes()}

    def sizes(self) -> dict[str, int]:
        """Its files and their bytes."""
        return {path.name: path.stat().st_size for path in self._all}

    @property
    def _all(self) -> tuple[Path, ...]:
        return self.paths if self.projector is None else (*self.paths, self.projector)

    def blindness(self) -> str:
        return self._checked(lambda: self.model.blindness)

    @cached_property
    def _texts(self) -> dict[str, bytes]:
        """What the header says, as the files of a checkpoint; without tokenizer.json, which takes time to make."""
        return self._checked(self._make_texts)

    def _make_texts(self) -> dict[str, bytes]:
        config = self.model.config
        vocabulary = self.vocabulary
        vocabulary.check()
        texts = {
            "config.json": _json({**config, "eos_token_id": vocabulary.stop_ids()}),
            "tokenizer_config.json": _json(vocabulary.config(self.model.metadata.context)),
        }
        if self.model.eyes is not None:
            texts["preprocessor_config.json"] = _json(self.model.eyes.pixels())
        texts |= {name: _json(value) for name, value in self.model.pooling_files().items()}
        template = self.chat_template()
        return texts | ({"chat_template.jinja": template.encode()} if template else {})

    @property
    def vocabulary(self) -> Vocabulary:
        return Vocabulary(self.model.vocabulary, self.place)

    def chat_template(self) -> str:
        """The template in Jinja; "" where there is none."""
        template = self.model.metadata.values.get(TEMPLATE, "")
        return template if isinstance(template, str) else ""

    def _read(self, path: str) -> bytes:
        return self._tokenizer() if path == TOKENIZER else self._texts[path]

    def weights(self, component: str) -> tuple[str, ...]:
        return () if component else tuple(self.sizes())

    def tensors(self, component: str) -> dict[str, TensorInfo]:
        return {} if component else self._checked(lambda: self.model.loaded_tensors())

    def declared_quantization(self, component: str) -> set[str]:
        return set() if component else set(self.model.types())

    def fetch(self, mode: ModelMode, progress: Progress | None = None) -> LocalModel:
        shards = self._checked(lambda: self.model.shards(self.paths, self.projector))
        folder = put_texts(self._texts, self._tokenizer, self.model.headers[0].raw, self.place)
        return LocalModel(self.name, folder, lambda component: () if component else shards)

    def _tokenizer(self) -> bytes:
        # Imported late: only what loads a model needs it.
        from models.tokenizers.gguf.build import build_tokenizer

        return self._checked(lambda: build_tokenizer(self.vocabulary)).to_str().encode()


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode()


def model_files(
    listing: Mapping[str, int], label: str, quantization: str = "", usual: Sequence[str] = ()
) -> tuple[str, ...]:
    """The GGUF files of one model among those listed: the only one, the one with this quantization in its name, or one
    with a `usual` quantization. Raises ModelNotSupported, with the choices."""
    sets = _sets(listing)
    chosen = [parts for parts in sets if not quantization or _has_quantization(parts[0], quantization)]
    for word in usual if len(chosen) > 1 and not quantization else ():
        chosen = [parts for parts in sets if _has_quantization(parts[0], word)] or chosen
        if len(chosen) == 1:
            break
    if len(chosen) == 1:
        return _all_parts(chosen[0], label)
    names = some((parts[0] for parts in chosen or sets), 20)
    if not chosen:
        raise ModelNotSupported(f"{label} has no GGUF file {quantization!r}; it has {names}")
    raise ModelNotSupported(f"{label} has several GGUF files; name one of them: {names}")


def quantizations(listing: Mapping[str, int]) -> dict[str, int]:
    """The quantizations of the models among the files listed, by which each can be named, and their bytes."""
    words = ((_QUANTIZATION.search(parts[0].rpartition("/")[2]), parts) for parts in _sets(listing))
    return {word[1]: sum(listing[part] for part in parts) for word, parts in words if word}


def files_with(listing: Mapping[str, int], quantization: str) -> tuple[str, ...]:
    """All files with this quantization, as `quantizations` names it."""
    sets = (
        parts
        for parts in _sets(listing)
        if (word := _QUANTIZATION.search(parts[0].rpartition("/")[2])) and word[1] == quantization
    )
    return tuple(name for parts in sets for name in parts)


def _sets(listing: Mapping[str, int]) -> list[list[str]]:
    """Files that belong together: one, or the parts of a split one."""
    sets: dict[str, list[str]] = {}
    for name in sorted(listing):
        if name.lower().endswith(SUFFIX) and not BESIDE.search(name):
            part = _PART.fullmatch(name)
            sets.setdefault(f"{part[1]}/{part[3]}" if part else name, []).append(name)
    return list(sets.values())


def _has_quantization(name: str, quantization: str) -> bool:
    """Whether it is a word of a file's name: `Q4_K_M` is in `x.Q4_K_M.gguf`, and `Q4_K` is not."""
    return re.search(rf"(?i)(^|[-./]){re.escape(quantization)}([-./]|$)", name) is not None


def _all_parts(names: Sequence[str], label: str) -> tuple[str, ...]:
    part = _PART.fullmatch(names[0])
    if part is not None:
        numbers = {int(match[2]) for match in map(_PART.fullmatch, names) if match}
        missing = [
            f"part {number} of {int(part[3])}"
            for number in range(1, int(part[3]) + 1)
            if number not in numbers
        ]
        if missing:
            raise ModelNotSupported(f"{label}: {some(missing)} of {part[1]} is missing; download it again")
    return tuple(names)


def has_gguf(listing: Mapping[str, int]) -> bool:
    return bool(_sets(listing))


def beside(path: Path) -> tuple[Path, ...]:
    """A file, and the other parts that it is split into."""
    part = _PART.fullmatch(path.name)
    if part is None:
        return (path,)
    listing = {other.name: 0 for other in path.parent.glob("*.gguf") if other.name.startswith(part[1])}
    names = next((names for names in _sets(listing) if path.name in names), [path.name])
    return tuple(path.parent / name for name in _all_parts(names, f"folder {path.parent}"))


def find_gguf(name: ModelName) -> GGUFFiles | None:
    """The model in the GGUF file of that name, or in a folder that has nothing else; None for anything else."""
    if name.source not in (None, "folder") or not name.text:
        return None
    path = Path(os.path.expanduser(name.text))
    try:
        if path.is_file() and path.name.lower().endswith(SUFFIX):
            path = path.absolute()
            files = {entry.name: 0 for entry in path.parent.iterdir()}
            return GGUFFiles(name.text, beside(path), _projector(path, files))
        if not path.is_dir():
            return None
        files = {entry.name: 0 for entry in path.iterdir()}
    except (OSError, ValueError):
        return None  # reported for what it is by those who look for a folder
    if not files.keys().isdisjoint(("config.json", *INDEXES)) or not has_gguf(files):
        return None
    label = f"folder {shorten(path, 300)}"
    paths = [path.resolve() / file for file in model_files(files, label)]
    return GGUFFiles(name.text, paths, _projector(paths[0], files))


def _projector(model: Path, files: Mapping[str, int]) -> Path | None:
    found = projector_of(model.name, files)
    return None if found is None else model.parent / found
