"""The adapters of a loaded model: each is read once and kept, up to a limit, and put beside the weights for a request.

adapters = ModelAdapters("FLUX.2 klein", {"transformer": Adaptable(component, FLUX2)}, limit)
warnings = adapters.use(request.adapters)
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from models.adapters.adapter import Adapter, read_adapter
from models.adapters.adapter_file import AdapterError
from models.adapters.names import LayerNames
from models.adapters.spellings import Spellings
from pipelines.base import AdapterChoice, PipelineError
from pipelines.components import Component

FileKey = tuple[Path, int, int]


class Adaptable(NamedTuple):
    """A component that adapters may change, and the names that its layers have beside the checkpoint's."""

    component: Component[Any]
    spellings: Spellings


class ModelAdapters:
    def __init__(self, model: str, components: Mapping[str, Adaptable], limit: int) -> None:
        """`limit`: bytes of adapters to keep; those in use are kept in any case."""
        self._model, self._components, self._limit = model, components, limit
        self._read: OrderedDict[FileKey, Adapter] = OrderedDict()
        self._used: tuple[tuple[FileKey, float], ...] = ()

    @cached_property
    def _names(self) -> Mapping[str, LayerNames]:
        return {name: part.component.layer_names(part.spellings) for name, part in self._components.items()}

    @property
    def nbytes(self) -> int:
        return sum(adapter.nbytes for adapter in self._read.values())

    @property
    def encoders(self) -> tuple[tuple[FileKey, float], ...]:
        """The adapters in use that change what a prompt is encoded to."""
        return tuple(
            (key, scale) for key, scale in self._used if self._read[key].changes.keys() - {"transformer"}
        )

    def use(self, choices: Sequence[AdapterChoice]) -> tuple[str, ...]:
        """Put these beside the weights, in place of those before; returns warnings. A PipelineError says what is wrong with
        one."""
        chosen = [(_key(choice), choice) for choice in choices if choice.scale]
        adapters = [(self._adapter(key, choice), choice.scale) for key, choice in chosen]
        used = tuple((key, choice.scale) for key, choice in chosen)
        if used != self._used:
            for name, part in self._components.items():
                part.component.adapt(
                    [(one.changes[name], scale) for one, scale in adapters if name in one.changes]
                )
            self._used = used
        self._forget()
        return tuple(dict.fromkeys(warning for adapter, _ in adapters for warning in adapter.warnings))

    def _adapter(self, key: FileKey, choice: AdapterChoice) -> Adapter:
        if key not in self._read:
            try:
                self._read[key] = read_adapter(choice.path, choice.name, self._model, self._names)
            except AdapterError as error:
                raise PipelineError(f"loras: {error}") from error
        self._read.move_to_end(key)
        return self._read[key]

    def _forget(self) -> None:
        """Drop the least recently used beyond the limit."""
        in_use = {key for key, _ in self._used}
        for key in [key for key in self._read if key not in in_use]:
            if self.nbytes <= self._limit:
                return
            del self._read[key]


def _key(choice: AdapterChoice) -> FileKey:
    """A file that is replaced is read again."""
    try:
        status = choice.path.stat()
    except OSError as error:
        raise PipelineError(f"loras: {choice.name} cannot be read: {error.strerror or error}") from error
    return choice.path, status.st_mtime_ns, status.st_size
