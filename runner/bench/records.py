"""What was measured: one record for each model, engine, part and size, one report for each run. Kept as JSON."""

import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import msgspec

from runner.errors import BadRequest

Unit = Literal["s", "tokens/s"]
GROWTH = "more than before"  # a `peak_of`


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """`values`: one for each repetition. `floor`: the time of the arithmetic alone, in the same unit. `peak`: the most
    memory held, in bytes (`peak_of` says what of). `steps` of a picture, `clients` at once. Of texts: `prompt_tokens`, the least
    and the most; `long`, the tokens of the one long prompt, or of `long_share` of them; `first_round`, before `values`."""

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
    prompt_tokens: tuple[int, int] = (0, 0)
    long: int = 0
    long_share: float = 0.0
    first_round: float = 0.0
    preemptions: int | None = None
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
        """The median as a multiple of the floor."""
        return self.median / self.floor if self.floor and self.unit == "s" else None

    @property
    def how(self) -> str:
        """What distinguishes this measurement from others of the same part."""
        words = [f"n={self.n}" if self.n > 1 else "", counted(self.steps, "step")]
        words += [
            counted(self.clients, "client"),
            *show_prompts(self.prompt_tokens, self.long, self.long_share),
            self.dtype,
        ]
        words += [f"quantized {self.quantize}" if self.quantize else "", self.memory]
        words += [f"cut to {counted(self.layers, 'block')} a kind" if self.layers else ""]
        words += [f"{self.preemptions} preemptions" if self.preemptions is not None else ""]
        return ", ".join(filter(None, words))


def show_prompts(lengths: tuple[int, int] | None, long: int, long_share: float) -> list[str]:
    """How long prompts are, in words."""
    least, most = lengths or (0, 0)
    words = [f"prompts of {least} to {most} tokens" if most > least else f"prompts of {most} tokens"]
    share = f"{long_share:.0%}" if long_share else "one"
    return (words if most else []) + ([f"{share} of {long} tokens"] if long else [])


def counted(number: int, noun: str) -> str:
    """`1 step`, `4 steps`, an empty string for 0."""
    return f"{number} {noun}{'s' if number > 1 else ''}" if number else ""


class Report(msgspec.Struct, kw_only=True):
    """One run. `machine`: device, memory, system. `versions`: packages. `rates`: operations a second, by type.
    `missing`: engines that took no part, and why. `failed`: what could not be measured."""

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
        raise BadRequest(f"{path} is not a report of the bench: {error}") from None
