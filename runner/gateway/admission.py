"""Which models fit in memory together: the budget, and each model's estimate, corrected by what its runner reported."""

import sys
from collections.abc import Sequence

from runner.errors import NotEnoughMemory
from runner.gateway.estimate import Need, option
from runner.gateway.lease import LoadedModel, Phase
from runner.gateway.resolver import ResolvedModel
from runner.hardware import UNKNOWN_MEMORY, card_memory, device_memory, has_gpu_backend
from runner.units import show_size

# The share of the memory that models get. On a Mac, Metal itself allows about three quarters.
MAC_SHARE = 0.75
CARD_SHARE = 0.94
RAM_SHARE = 0.85


def default_budget() -> tuple[int, str]:
    """Bytes for models, and where the number comes from."""
    if sys.platform == "darwin":
        return _share(device_memory(), MAC_SHARE, "unified memory")
    if has_gpu_backend():
        card = card_memory()
        if card is not None:
            return _share(card, CARD_SHARE, "the card's memory")
    return _share(device_memory(), RAM_SHARE, "memory")


def _share(memory: int | None, share: float, kind: str) -> tuple[int, str]:
    if memory is None:
        return UNKNOWN_MEMORY, "a guess: the system does not report how much memory there is"
    return int(memory * share), f"{share:.0%} of {kind}"


class Admission:
    """`most`: how many models may be loaded. `force`: load models even if the estimate says they do not fit."""

    def __init__(self, budget: int, most: int | None = None, force: bool = False) -> None:
        self.budget = budget
        self._most = most
        self._force = force
        self._measured: dict[str, int] = {}

    def learn(self, loaded: LoadedModel) -> None:
        """Remember what a loaded model turned out to need."""
        if loaded.weights:
            self._measured[loaded.model.argument] = loaded.reload_bytes

    def needs(self, model: ResolvedModel) -> int:
        measured = self._measured.get(model.argument)
        need = self.need(model)
        return measured or (need.staged if self.stage(model) else need.resident)

    def need(self, model: ResolvedModel) -> Need:
        """With the weights unpacked if the budget has room for that, otherwise packed."""
        return model.need.within(self.budget, option(model.options, "memory") == "resident")

    def options(self, model: ResolvedModel) -> list[str]:
        """The options of its runner beside the model's own."""
        staged = ["--memory", "staged"] if self.stage(model) else []
        return [*staged, *(["--room", str(self.budget)] if model.need.packed is not None else [])]

    def stage(self, model: ResolvedModel) -> bool:
        """Whether to load the parts of a picture model in turn, because together they would never fit."""
        return model.chooses_memory_mode and self.need(model).resident > self.budget

    def check(self, model: ResolvedModel) -> None:
        """NotEnoughMemory, with both numbers and what would help, for a model that does not fit even alone."""
        needs = self.needs(model)
        if needs <= self.budget or self._force:
            return
        message = f"{model.name} needs about {show_size(needs)}; models may take {show_size(self.budget)} in all (--memory)"
        need = self.need(model)
        if need.staged <= self.budget:
            message += f"; with memory = staged it needs {show_size(need.staged)}"
        elif need.smallest <= self.budget:
            message += f"; with quantize = 4 and memory = staged it needs {show_size(need.smallest)}"
        else:
            message += "; --force loads it all the same"
        raise NotEnoughMemory(message)

    def fits(self, needs: int, others: Sequence[LoadedModel]) -> bool:
        """Whether there is room beside the others. A model that passed `check` always fits alone."""
        if self._most is not None and len(others) >= self._most:
            return False
        return not others or sum(loaded.held for loaded in others) + needs <= self.budget

    def to_evict(self, needs: int, others: Sequence[LoadedModel]) -> list[LoadedModel]:
        """The fewest of the others that have to go; first those that are ending, then the longest loaded."""
        staying = sorted(others, key=lambda loaded: (loaded.phase is not Phase.ENDING, loaded.began))
        going = []
        while staying and not self.fits(needs, staying):
            going.append(staying.pop(0))
        return going
