"""What was measured, as it is kept: one record a model, engine, part and size; one report a run. JSON both ways."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from runner.errors import BadRequest

Unit = Literal["s", "tokens/s"]


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`values` in the unit, one a repetition. `floor`: the least that the device's arithmetic allows, in the same unit.
    `peak`: the most memory that was held, in bytes (`peak_of` says whose); `steps` of a picture, `clients` at once."""

    model: str
    engine: str
    part: str
    unit: Unit
    values: tuple[float, ...]
    width: int = 0
    height: int = 0
    n: int = 1
    steps: int = 0
    clients: int = 0
    dtype: str = ""
    quantize: str = ""
    memory: str = ""
    layers: int = 0
    floor: float = 0.0
    peak: int = 0
    peak_of: str = ""
    note: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def size(self) -> str:
        return f"{self.width}x{self.height}" if self.width else ""

    @property
    def of_floor(self) -> float | None:
        """How many times the floor it takes."""
        return self.median / self.floor if self.floor and self.unit == "s" else None

    @property
    def how(self) -> str:
        """All that tells this measurement from others of the same part."""
        told = [f"n={self.n}" if self.n > 1 else "", counted(self.steps, "step")]
        told += [
            f"{self.clients} client{'s' if self.clients > 1 else ''}" if self.clients else "",
            self.dtype,
        ]
        told += [f"quantized {self.quantize}" if self.quantize else "", self.memory]
        told += [f"cut to {self.layers} block{'s' if self.layers > 1 else ''} a kind" if self.layers else ""]
        return ", ".join(filter(None, told))


def counted(number: int, what: str) -> str:
    """`1 step`, `4 steps`, nothing for none."""
    return f"{number} {what}{'s' if number > 1 else ''}" if number else ""


class Report(msgspec.Struct, kw_only=True):
    """One run. `machine`: device, memory, system; `versions`: of what took part; `rates`: operations a second, by
    type; `missing`: engines that took no part, and why; `failed`: what could not be measured."""

    date: str
    command: str
    machine: dict[str, str]
    versions: dict[str, str]
    records: list[Record] = []
    rates: dict[str, float] = {}
    missing: dict[str, str] = {}
    failed: list[str] = []

    def write(self, path: Path) -> None:
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1) + b"\n")


def read_reports(paths: Iterable[Path]) -> list[Report]:
    return [_read(path) for path in paths]


def _read(path: Path) -> Report:
    try:
        return msgspec.json.decode(path.read_bytes(), type=Report)
    except OSError as error:
        raise BadRequest(f"{path} cannot be read: {error.strerror or error}") from None
    except msgspec.DecodeError as error:
        raise BadRequest(f"{path} is no report of the bench: {error}") from None
